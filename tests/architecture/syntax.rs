//! Reads the names of an item: what it imports, which paths it has, and whether it is there for tests.

use proc_macro2::{Group, TokenStream, TokenTree};
use syn::{
    Attribute, Item, Meta, MetaList, QSelf, Token, Type, UseTree, WherePredicate, punctuated::Punctuated,
    spanned::Spanned, visit::Visit,
};

/// How many readings of one path are looked into for more.
const READINGS_MAX: usize = 8;

/// One name that a `use` gives to its module.
pub(crate) struct Import {
    /// `None` is a glob.
    pub(crate) alias: Option<String>,
    pub(crate) path: Vec<String>,
}

impl Import {
    pub(crate) fn written(&self) -> Vec<String> {
        let glob = self.alias.is_none().then(|| "*".to_owned());
        self.path.iter().cloned().chain(glob).collect()
    }
}

/// A `use` taken apart.
pub(crate) fn imports(tree: &UseTree) -> Vec<Import> {
    let (mut imports, mut open) = (Vec::new(), vec![(Vec::new(), tree)]);
    while let Some((before, tree)) = open.pop() {
        let with = |last: &syn::Ident| {
            let is_itself = last == "self" && !before.is_empty();
            let last = (!is_itself).then(|| last.to_string());
            before.iter().cloned().chain(last).collect::<Vec<_>>()
        };
        match tree {
            UseTree::Path(path) => open.push((with(&path.ident), &path.tree)),
            UseTree::Group(group) => open.extend(group.items.iter().map(|tree| (before.clone(), tree))),
            UseTree::Name(name) => {
                let path = with(&name.ident);
                imports.push(Import { alias: path.last().cloned(), path });
            }
            UseTree::Rename(name) => {
                imports.push(Import { alias: Some(name.rename.to_string()), path: with(&name.ident) });
            }
            UseTree::Glob(_) => imports.push(Import { alias: None, path: before }),
        }
    }
    imports
}

/// The paths of an item, and what its functions import.
#[derive(Default)]
pub(crate) struct Paths {
    pub(crate) found: Vec<(usize, Vec<String>)>,
    imports: Vec<Import>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.end_path(&mut names(path), path.span().start().line);
        syn::visit::visit_path(self, path);
    }

    /// `<Type>::name` is `Type::name`.
    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        if let Some(QSelf { ty, position: 0, .. }) = &path.qself
            && let Type::Path(of) = &**ty
        {
            let mut joined = [names(&of.path), names(&path.path)].concat();
            self.end_path(&mut joined, path.span().start().line);
        }
        syn::visit::visit_expr_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.visit_path(&invoked.path);
        self.tokens(invoked.tokens.clone());
    }

    /// Who may see an item is nobody whom the item knows.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    /// Docs name what they like, and so does what is there for tests.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if !attribute.path().is_ident("doc") && !is_attribute_of_tests(attribute) {
            syn::visit::visit_attribute(self, attribute);
        }
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        syn::visit::visit_meta_list(self, list);
        self.tokens(list.tokens.clone());
        self.literals(list.tokens.clone());
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // One inside a function.
        let imports = imports(&item.tree);
        let line = item.span().start().line;
        self.found.extend(imports.iter().map(|import| (line, import.written())));
        self.imports.extend(imports);
    }
}

/// `(in crate::module)`, in a macro.
fn is_visibility(group: &Group) -> bool {
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(first)) if first == "in")
}

fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

impl Paths {
    /// A path as it is, and as every import of a function of the item would have it.
    pub(crate) fn readings(&self, path: &[String]) -> Vec<Vec<String>> {
        let mut readings = vec![path.to_vec()];
        let mut at = 0;
        while at < readings.len() && at < READINGS_MAX {
            let path = readings[at].clone();
            for import in self.imports.iter().filter(|import| import.alias.as_ref() == Some(&path[0])) {
                let reading = [&import.path, &path[1..]].concat();
                if import.path[0] != path[0] && !readings.contains(&reading) {
                    readings.push(reading);
                }
            }
            at += 1;
        }
        readings
    }

    /// A text in an attribute that is a type, a path or a bound, as in `#[serde(with = "crate::serde")]`.
    fn literals(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.literals(group.stream()),
                TokenTree::Literal(literal) => {
                    let line = literal.span().start().line;
                    let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) else { continue };
                    if !text.value().contains("::") {
                        continue;
                    }
                    let mut inside = Self::default();
                    if let Ok(it) = text.parse::<Type>() {
                        inside.visit_type(&it);
                    } else if let Ok(it) =
                        text.parse_with(Punctuated::<WherePredicate, Token![,]>::parse_terminated)
                    {
                        it.iter().for_each(|it| inside.visit_where_predicate(it));
                    }
                    self.found.extend(inside.found.into_iter().map(|(_, path)| (line, path)));
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

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
                        TokenTree::Group(group) if is_visibility(&group) => {}
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

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
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

pub(crate) fn name_of(item: &Item) -> Option<String> {
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
pub(crate) fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| condition(attribute, "cfg").is_some_and(|it| it == "test"))
}

/// `#[cfg(any(test, feature = "testkit"))]`, or with the feature alone.
pub(crate) fn is_of_testkit(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| condition(attribute, "cfg").is_some_and(|it| is_testkit(&it)))
}

fn is_testkit(condition: &str) -> bool {
    [r#"any(test,feature="testkit")"#, r#"feature="testkit""#].contains(&condition)
}

/// `#[cfg_attr(test, …)]`, or with the conditions of the test kit.
fn is_attribute_of_tests(attribute: &Attribute) -> bool {
    condition(attribute, "cfg_attr").is_some_and(|it| it == "test" || is_testkit(&it))
}

/// The condition of a `cfg` or `cfg_attr`, without spaces.
fn condition(attribute: &Attribute, name: &str) -> Option<String> {
    let Meta::List(list) = &attribute.meta else { return None };
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(it) if it.as_char() == ',');
    let condition = list.tokens.clone().into_iter().take_while(|token| !is_comma(token));
    let text = condition.collect::<TokenStream>().to_string();
    list.path.is_ident(name).then(|| text.split_whitespace().collect())
}
