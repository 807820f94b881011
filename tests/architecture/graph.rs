//! Reads which file of the two packages names what of which other file.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item, Meta, UseTree, spanned::Spanned, visit::Visit};

/// How many re-exports are followed from a name to its definition.
const REEXPORTS_MAX: usize = 8;

/// A place where one file names something of another one, or of another crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// As it is written, with `use` lists taken apart.
    pub(crate) path: String,
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
        let Self { file, line, path, target } = self;
        match target {
            Target::File(target) => write!(f, "{file}:{line} names `{path}` of {target}"),
            Target::Foreign => write!(f, "{file}:{line} names `{path}`"),
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
    children: Vec<String>,
}

/// Every reference of the packages, but for those of their tests.
pub(crate) struct Graph {
    pub(crate) references: Vec<Reference>,
    /// Every file that is not only there for tests.
    pub(crate) files: Vec<String>,
}

/// One that was read and not resolved yet.
struct Unresolved {
    module: Vec<String>,
    file: String,
    line: usize,
    path: Vec<String>,
}

impl Graph {
    pub(crate) fn of(packages: &[Package]) -> Self {
        let mut reader =
            Reader { packages, modules: BTreeMap::new(), unresolved: Vec::new(), files: Vec::new() };
        for package in packages {
            reader.read_file(package, vec![package.krate.to_owned()], "lib.rs");
        }
        let mut references: Vec<_> = reader.unresolved.iter().filter_map(|one| reader.resolve(one)).collect();
        references.sort();
        references.dedup();
        let mut files = reader.files.clone();
        files.sort();
        Self { references, files }
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
                    self.modules.entry(module.to_vec()).or_default().children.push(child_name.clone());
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
                    self.read_use(module, name, line, &item.tree, &mut Vec::new());
                }
                _ => {
                    if let Some(defined) = name_of(item) {
                        self.define(module, &defined);
                    }
                    let mut paths = Paths::default();
                    paths.visit_item(item);
                    self.unresolved.extend(paths.found.into_iter().map(|(line, path)| Unresolved {
                        module: module.to_vec(),
                        file: name.to_owned(),
                        line,
                        path,
                    }));
                }
            }
        }
    }

    fn define(&mut self, module: &[String], name: &str) {
        self.modules.entry(module.to_vec()).or_default().names.entry(name.to_owned()).or_insert(None);
    }

    fn read_use(
        &mut self,
        module: &[String],
        file: &str,
        line: usize,
        tree: &UseTree,
        before: &mut Vec<String>,
    ) {
        let mut found = |alias: Option<String>, path: Vec<String>| {
            let entry = self.modules.entry(module.to_vec()).or_default();
            match alias {
                Some(alias) => drop(entry.names.insert(alias, Some(path.clone()))),
                None => entry.globs.push(path.clone()),
            }
            self.unresolved.push(Unresolved { module: module.to_vec(), file: file.to_owned(), line, path });
        };
        let with = |last: &syn::Ident, before: &[String]| {
            let mut path = before.to_vec();
            if last != "self" || path.is_empty() {
                path.push(last.to_string());
            }
            path
        };
        match tree {
            UseTree::Name(name) => {
                let path = with(&name.ident, before);
                found(path.last().cloned(), path);
            }
            UseTree::Rename(rename) => found(Some(rename.rename.to_string()), with(&rename.ident, before)),
            UseTree::Glob(_) => found(None, before.clone()),
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.read_use(module, file, line, &path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.read_use(module, file, line, tree, before));
            }
        }
    }

    fn resolve(&self, one: &Unresolved) -> Option<Reference> {
        let Unresolved { module, file, line, path } = one;
        let reference = |target| {
            let path = path.join("::");
            Some(Reference { file: file.clone(), line: *line, path, target })
        };
        match self.absolute(module, path) {
            Some(absolute) => {
                let target = self.file_of(&absolute, REEXPORTS_MAX)?;
                if target == *file { None } else { reference(Target::File(target)) }
            }
            None if is_foreign(&path[0]) => reference(Target::Foreign),
            // A name of this file, or of the prelude.
            None => None,
        }
    }

    /// The path from its crate on; `None` if it is none of ours.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?;
        if self.packages.iter().any(|package| package.krate == first) {
            return Some(path.to_vec());
        }
        let rest = &path[1..];
        match first.as_str() {
            "crate" => Some([&module[..1], rest].concat()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let above = module.len() - 1;
                let supers = rest.iter().take_while(|name| *name == "super").count();
                Some([&module[..above - supers], &rest[supers..]].concat())
            }
            name => match self.modules.get(module)?.names.get(name)? {
                None => Some([module, path].concat()),
                // A name that stands for itself is of another crate.
                Some(import) if import[0] == *name => None,
                Some(import) => self.absolute(module, &[import, rest].concat()),
            },
        }
    }

    /// The file that defines what an absolute path names.
    fn file_of(&self, path: &[String], reexports: usize) -> Option<String> {
        let known = (1..=path.len()).rev().find(|len| self.modules.contains_key(&path[..*len]))?;
        let (module, rest) = path.split_at(known);
        let here = self.modules.get(module)?;
        let Some(name) = rest.first().filter(|_| reexports > 0) else { return Some(here.file.clone()) };
        match here.names.get(name) {
            Some(Some(import)) => {
                // Of another crate: this file is where it is named.
                let Some(import) = self.absolute(module, import) else { return Some(here.file.clone()) };
                self.file_of(&[&import, &rest[1..]].concat(), reexports - 1)
            }
            Some(None) => Some(here.file.clone()),
            None => {
                let globs = here.globs.iter().filter_map(|glob| self.absolute(module, glob));
                let defines =
                    |glob: &Vec<String>| self.modules.get(glob).is_some_and(|it| it.names.contains_key(name));
                let from = globs.into_iter().find(defines);
                from.map_or_else(
                    || Some(here.file.clone()),
                    |glob| self.file_of(&[&glob, rest].concat(), reexports - 1),
                )
            }
        }
    }
}

/// The crates whose names count: the others are values and types as good as our own.
fn is_foreign(name: &str) -> bool {
    ["std", "tokio", "tokio_util", "actix", "actix_rt", "actix_web", "metrics", "tokio_postgres"]
        .contains(&name)
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

/// The paths of an item that are no imports.
#[derive(Default)]
struct Paths {
    found: Vec<(usize, Vec<String>)>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.found.push((path.span().start().line, names));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.visit_path(&invoked.path);
        self.tokens(invoked.tokens.clone());
    }

    /// Docs name what they like.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if !attribute.path().is_ident("doc") {
            syn::visit::visit_attribute(self, attribute);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // One inside a function.
        let mut open = vec![(Vec::new(), &item.tree)];
        while let Some((before, tree)) = open.pop() {
            let line = item.span().start().line;
            match tree {
                UseTree::Path(path) => {
                    open.push(([before, vec![path.ident.to_string()]].concat(), &path.tree));
                }
                UseTree::Group(group) => open.extend(group.items.iter().map(|tree| (before.clone(), tree))),
                UseTree::Name(name) => {
                    self.found.push((line, [before, vec![name.ident.to_string()]].concat()))
                }
                UseTree::Rename(name) => {
                    self.found.push((line, [before, vec![name.ident.to_string()]].concat()))
                }
                UseTree::Glob(_) => self.found.push((line, before)),
            }
        }
    }
}

impl Paths {
    /// What a macro is given is no syntax yet: names with `::` between them are a path.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut line, mut colons) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 || path.is_empty() => {
                    if path.is_empty() {
                        line = name.span().start().line;
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.end_path(&mut path, line);
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Ident(name) => {
                            line = name.span().start().line;
                            path.push(name.to_string());
                        }
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.end_path(&mut path, line);
    }

    fn end_path(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.found.push((line, path));
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// `#[cfg(test)]`.
fn is_of_tests(attributes: &[Attribute]) -> bool {
    conditions(attributes).any(|condition| condition == "test")
}

/// `#[cfg(any(test, feature = "testkit"))]`, or with the feature alone.
fn is_of_testkit(attributes: &[Attribute]) -> bool {
    conditions(attributes).any(|condition| condition.contains("testkit") && !condition.contains("not"))
}

fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = String> {
    attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => Some(list.tokens.to_string()),
        _ => None,
    })
}
