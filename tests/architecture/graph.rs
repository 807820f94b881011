//! Reads which file of the two packages names what of which other file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use syn::{Item, spanned::Spanned, visit::Visit};

use crate::syntax::{Import, Paths, attributes, imports, is_of_testkit, is_of_tests, name_of};

/// How many re-exports are followed from a name to its definition.
const REEXPORTS_MAX: usize = 8;

/// A place where one file names something of another one, or of another crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// As it is written, with `use` lists taken apart. The last name of a glob is `*`.
    pub(crate) path: String,
    /// The same from its crate on, with every import on the way put in.
    pub(crate) full: String,
    pub(crate) target: Target,
}

/// What is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The file that defines it, through all re-exports.
    File(String),
    /// Of the standard library, or of a package that is not ours.
    Foreign,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, path, full, target } = self;
        match target {
            Target::File(target) => write!(f, "{file}:{line} names `{path}` of {target}"),
            Target::Foreign if path == full => write!(f, "{file}:{line} names `{path}`"),
            Target::Foreign => write!(f, "{file}:{line} names `{path}`, which is `{full}`"),
        }
    }
}

/// The sources of one package.
pub(crate) struct Package {
    /// How others call it.
    pub(crate) krate: &'static str,
    /// Where its sources are, below the root of the repository.
    pub(crate) dir: &'static str,
    /// File by path below `dir`.
    pub(crate) files: BTreeMap<String, String>,
}

impl Package {
    pub(crate) fn read(root: &Path, krate: &'static str, dir: &'static str) -> Self {
        let mut files = BTreeMap::new();
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            for entry in fs::read_dir(root.join(dir).join(&below)).expect("a directory of sources") {
                let entry = entry.expect("an entry");
                let path = below.join(entry.file_name());
                if entry.file_type().expect("its type").is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(entry.path()).expect("a source");
                    files.insert(path.to_string_lossy().into_owned(), text);
                }
            }
        }
        Self { krate, dir, files }
    }
}

/// A module of a package.
#[derive(Default)]
struct Module {
    file: String,
    /// Every name that it defines or imports, and what an import stands for.
    names: BTreeMap<String, Option<Vec<String>>>,
    globs: Vec<Vec<String>>,
}

/// Where a path leads to, from its crate on.
enum Place {
    Ours(Vec<String>),
    Foreign(Vec<String>),
}

/// What a name stands for at the end of all re-exports.
struct Definition {
    /// The file that defines it, or that takes it from another crate.
    file: String,
    /// Its path there, if it is of another crate.
    foreign: Option<Vec<String>>,
}

impl Definition {
    fn of(file: &str) -> Self {
        Self { file: file.to_owned(), foreign: None }
    }
}

/// Every reference of the packages, but for those of their tests.
pub(crate) struct Graph {
    pub(crate) references: Vec<Reference>,
    /// The path of every module, from its crate on.
    pub(crate) modules: BTreeSet<String>,
    /// Every file that is not only there for tests.
    pub(crate) files: Vec<String>,
}

/// One that was read and not resolved yet.
struct Unresolved {
    module: Vec<String>,
    file: String,
    line: usize,
    written: Vec<String>,
    /// With the imports of its function put in.
    path: Vec<String>,
}

impl Graph {
    pub(crate) fn of(packages: &[Package]) -> Self {
        let mut reader =
            Reader { packages, modules: BTreeMap::new(), unresolved: Vec::new(), files: Vec::new() };
        for package in packages {
            reader.read_file(package, vec![package.krate.to_owned()], "lib.rs");
        }
        let mut references: Vec<_> = reader.unresolved.iter().flat_map(|one| reader.resolve(one)).collect();
        references.sort();
        references.dedup();
        let mut files = reader.files.clone();
        files.sort();
        let modules = reader.modules.keys().map(|module| module.join("::")).collect();
        Self { references, modules, files }
    }
}

struct Reader<'a> {
    packages: &'a [Package],
    /// By path, the name of the crate first.
    modules: BTreeMap<Vec<String>, Module>,
    unresolved: Vec<Unresolved>,
    files: Vec<String>,
}

impl Reader<'_> {
    fn read_file(&mut self, package: &Package, module: Vec<String>, file: &str) {
        let text = package.files.get(file).unwrap_or_else(|| panic!("{file} of {module:?} is there"));
        let items = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}")).items;
        let name = format!("{}/{file}", package.dir);
        self.files.push(name.clone());
        self.read_items(package, &module, &name, file, &items);
    }

    fn read_items(&mut self, package: &Package, module: &[String], name: &str, file: &str, items: &[Item]) {
        self.modules.entry(module.to_vec()).or_default().file = name.to_owned();
        for item in items.iter().filter(|item| !is_of_tests(attributes(item))) {
            match item {
                Item::Mod(child) => {
                    let child_name = child.ident.to_string();
                    let child_module = [module, std::slice::from_ref(&child_name)].concat();
                    self.define(module, &child_name);
                    match &child.content {
                        Some((_, items)) => self.read_items(package, &child_module, name, file, items),
                        None => {
                            let path = path_of(package, file, &child_name);
                            self.read_file(package, child_module, &path);
                        }
                    }
                }
                // What only the test kit adds to the engine is no part of its architecture.
                _ if is_of_testkit(attributes(item)) => {}
                Item::Use(item) => {
                    let line = item.span().start().line;
                    imports(&item.tree)
                        .into_iter()
                        .for_each(|import| self.import(module, name, line, import));
                }
                Item::ExternCrate(item) => {
                    let alias = item.rename.as_ref().map_or(&item.ident, |(_, alias)| alias).to_string();
                    let import = Import { alias: Some(alias), path: vec![item.ident.to_string()] };
                    self.import(module, name, item.span().start().line, import);
                }
                _ => {
                    if let Some(defined) = name_of(item) {
                        self.define(module, &defined);
                    }
                    let mut paths = Paths::default();
                    paths.visit_item(item);
                    for (line, written) in &paths.found {
                        self.unresolved.extend(paths.readings(written).into_iter().map(|path| Unresolved {
                            module: module.to_vec(),
                            file: name.to_owned(),
                            line: *line,
                            written: written.clone(),
                            path,
                        }));
                    }
                }
            }
        }
    }

    fn define(&mut self, module: &[String], name: &str) {
        self.modules.entry(module.to_vec()).or_default().names.entry(name.to_owned()).or_insert(None);
    }

    fn import(&mut self, module: &[String], file: &str, line: usize, import: Import) {
        let written = import.written();
        let entry = self.modules.entry(module.to_vec()).or_default();
        match import.alias {
            Some(alias) => drop(entry.names.insert(alias, Some(import.path))),
            None => entry.globs.push(import.path),
        }
        let (module, file, path) = (module.to_vec(), file.to_owned(), written.clone());
        self.unresolved.push(Unresolved { module, file, line, written, path });
    }

    fn resolve(&self, one: &Unresolved) -> Vec<Reference> {
        let reference = |full: &[String], target| Reference {
            file: one.file.clone(),
            line: one.line,
            path: one.written.join("::"),
            full: full.join("::"),
            target,
        };
        match self.absolute(&one.module, &one.path) {
            Place::Foreign(full) => vec![reference(&full, Target::Foreign)],
            Place::Ours(full) => {
                let Some(defined) = self.definition(&full, REEXPORTS_MAX) else { return Vec::new() };
                let foreign = defined.foreign.iter().map(|foreign| reference(foreign, Target::Foreign));
                let other_file = Some(defined.file.clone()).filter(|file| *file != one.file);
                let ours = other_file.map(|file| reference(&full, Target::File(file)));
                foreign.chain(ours).collect()
            }
        }
    }

    /// The path from its crate on.
    fn absolute(&self, module: &[String], path: &[String]) -> Place {
        match self.expanded(module, path) {
            Place::Foreign(full) => match self.glob_with(module, &full[0]) {
                Some(glob) => Place::Ours([glob, full].concat()),
                // A name of the prelude, or of a generic parameter, is as good as another crate.
                None => Place::Foreign(full),
            },
            ours => ours,
        }
    }

    /// The same, without a look at what globs import.
    fn expanded(&self, module: &[String], path: &[String]) -> Place {
        let (first, rest) = (&path[0], &path[1..]);
        if self.packages.iter().any(|package| package.krate == first) {
            return Place::Ours(path.to_vec());
        }
        match first.as_str() {
            "crate" => Place::Ours([&module[..1], rest].concat()),
            "self" => Place::Ours([module, rest].concat()),
            "super" => {
                let above = module.len() - 1;
                let supers = rest.iter().take_while(|name| *name == "super").count();
                Place::Ours([&module[..above - supers], &rest[supers..]].concat())
            }
            name => match self.modules.get(module).and_then(|module| module.names.get(name)) {
                None => Place::Foreign(path.to_vec()),
                Some(None) => Place::Ours([module, path].concat()),
                Some(Some(import)) if import[0] == *name => {
                    let is_child = self.modules.contains_key(&[module, std::slice::from_ref(first)].concat());
                    let import = [import, rest].concat();
                    // Else it stands for itself, and is of another crate.
                    if is_child { Place::Ours([module, &import].concat()) } else { Place::Foreign(import) }
                }
                Some(Some(import)) => self.expanded(module, &[import, rest].concat()),
            },
        }
    }

    /// The module of ours that has the name, and gives it to this one by a glob.
    fn glob_with(&self, module: &[String], name: &str) -> Option<Vec<String>> {
        let globs = self.modules.get(module)?.globs.iter();
        let ours = globs.filter_map(|glob| match self.expanded(module, glob) {
            Place::Ours(glob) => Some(glob),
            Place::Foreign(_) => None,
        });
        ours.into_iter().find(|glob| self.modules.get(glob).is_some_and(|it| it.names.contains_key(name)))
    }

    /// What an absolute path names.
    fn definition(&self, path: &[String], reexports: usize) -> Option<Definition> {
        let known = (1..=path.len()).rev().find(|len| self.modules.contains_key(&path[..*len]))?;
        let (module, rest) = path.split_at(known);
        let here = self.modules.get(module)?;
        let Some(name) = rest.first().filter(|_| reexports > 0) else {
            return Some(Definition::of(&here.file));
        };
        match here.names.get(name) {
            Some(Some(import)) => match self.absolute(module, &[import, &rest[1..]].concat()) {
                Place::Ours(import) => self.definition(&import, reexports - 1),
                Place::Foreign(foreign) => {
                    Some(Definition { foreign: Some(foreign), ..Definition::of(&here.file) })
                }
            },
            Some(None) => Some(Definition::of(&here.file)),
            None => self.glob_with(module, name).map_or_else(
                || Some(Definition::of(&here.file)),
                |glob| self.definition(&[&glob, rest].concat(), reexports - 1),
            ),
        }
    }
}

/// Where the file of a child module is.
fn path_of(package: &Package, file: &str, child: &str) -> String {
    let dir = match file.rsplit_once('/') {
        Some((dir, "mod.rs")) => format!("{dir}/"),
        _ if file == "lib.rs" => String::new(),
        _ => format!("{}/", file.trim_end_matches(".rs")),
    };
    let candidates = [format!("{dir}{child}.rs"), format!("{dir}{child}/mod.rs")];
    let found = candidates.iter().find(|path| package.files.contains_key(*path));
    found.unwrap_or_else(|| panic!("the file of module {child} of {file}")).clone()
}
