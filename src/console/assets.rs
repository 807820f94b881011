//! The files of the page: embedded, compressed once, under a name that changes with what is in them.

use std::{collections::BTreeMap, hash::Hasher, io::Write, sync::LazyLock};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::{Bytes, Path},
};
use flate2::{Compression, write::GzEncoder};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{
    access::{Caller, Looks, Reads},
    embedded::FILES,
    problem::Problem,
};

/// What `index.html` writes where the directory with the hash is meant.
const PLACE: &str = "assets/_/";
/// For how long browsers keep a file whose name has the hash of its content: a year.
const FOR_EVER: &str = "private, max-age=31536000, immutable";
/// What is shown where the page was left out of the build.
const NO_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Callsheet</title>\
                       <p>The page is not part of this build. The API is at <a href=\"api/openapi.json\">api/</a>.";

struct File {
    plain: Bytes,
    gzip: Option<Bytes>,
    kind: &'static str,
    etag: String,
}

struct Assets {
    hash: String,
    files: BTreeMap<&'static str, File>,
    index: File,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::new);

fn hash_of(bytes: &[u8]) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    format!("{:032x}", hasher.finish128().as_u128())
}

/// The type of a file by its name; others are not served.
fn kind_of(path: &str) -> Option<&'static str> {
    let (_, end) = path.rsplit_once('.')?;
    Some(match end {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        "png" => "image/png",
        "ico" => "image/x-icon",
        _ => return None,
    })
}

impl File {
    fn new(plain: Bytes, kind: &'static str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // In memory: nothing fails.
        let gzip = encoder.write_all(&plain).and_then(|()| encoder.finish()).ok();
        let gzip = gzip.filter(|gzip| gzip.len() < plain.len()).map(Bytes::from);
        Self { gzip, kind, etag: format!("\"{}\"", hash_of(&plain)), plain }
    }

    fn answer(&self, request: &HttpRequest, cache: &'static str) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response
            .insert_header((header::CACHE_CONTROL, cache))
            .insert_header((header::ETAG, self.etag.as_str()))
            .insert_header((header::VARY, "Accept-Encoding"));
        if is_known(request.headers().get(header::IF_NONE_MATCH), &self.etag) {
            return response.status(actix_web::http::StatusCode::NOT_MODIFIED).finish();
        }
        response.insert_header((header::CONTENT_TYPE, self.kind));
        match &self.gzip {
            Some(gzip) if takes_gzip(request.headers().get(header::ACCEPT_ENCODING)) => {
                response.insert_header((header::CONTENT_ENCODING, "gzip")).body(gzip.clone())
            }
            Some(_) | None => response.body(self.plain.clone()),
        }
    }
}

fn is_known(given: Option<&HeaderValue>, etag: &str) -> bool {
    let given = given.and_then(|given| given.to_str().ok()).unwrap_or_default();
    given.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

fn takes_gzip(given: Option<&HeaderValue>) -> bool {
    let given = given.and_then(|given| given.to_str().ok()).unwrap_or_default();
    given.split(',').any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let weight = weight.trim().trim_start_matches("q=");
        name.trim().eq_ignore_ascii_case("gzip")
            && !weight.starts_with("0.000")
            && weight != "0"
            && weight != "0.0"
    })
}

impl Assets {
    fn new() -> Self {
        let mut all = Vec::new();
        for (path, content) in FILES {
            all.extend_from_slice(path.as_bytes());
            all.extend_from_slice(content);
        }
        let hash = hash_of(&all);
        let index = FILES.iter().find(|(path, _)| *path == "index.html");
        let index = index.map_or(NO_PAGE.into(), |(_, page)| String::from_utf8_lossy(page));
        let index = index.replace(PLACE, &format!("assets/{hash}/"));
        let file = |(path, content): &(&'static str, &'static [u8])| {
            Some((*path, File::new(Bytes::from_static(content), kind_of(path)?)))
        };
        let files = FILES.iter().filter(|(path, _)| *path != "index.html").filter_map(file).collect();
        let index = File::new(index.into(), "text/html; charset=utf-8");
        Self { hash, files, index }
    }
}

/// The page, at the root of the scope.
pub(crate) async fn index(_: Caller<Looks>, request: HttpRequest) -> HttpResponse {
    ASSETS.index.answer(&request, "private, no-cache")
}

/// The root of the scope without the slash: relative URLs need it.
pub(crate) async fn with_slash(_: Caller<Looks>, request: HttpRequest) -> HttpResponse {
    let last = request.path().rsplit('/').next().unwrap_or_default();
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, format!("./{last}/"))).finish()
}

/// A file of the page.
pub(crate) async fn file(
    caller: Caller<Reads, Path<(String, String)>>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (hash, path) = caller.input.into_inner();
    let file = ASSETS.files.get(path.as_str()).filter(|_| hash == ASSETS.hash);
    Ok(file.ok_or_else(Problem::no_route)?.answer(&request, FOR_EVER))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    fn files_of(dir: &Path, below: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files_of(&path, below, found);
                continue;
            }
            let name = path.strip_prefix(below).expect("it is below").to_string_lossy().into_owned();
            let is_text_beside = name.ends_with(".md")
                || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LICENSE"));
            if !is_text_beside && !name.starts_with('.') {
                found.insert(name);
            }
        }
    }

    #[test]
    fn each_file_of_the_page_is_embedded_and_has_a_type() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets");
        let mut found = BTreeSet::new();
        files_of(&dir, &dir, &mut found);

        let embedded: BTreeSet<_> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();

        assert_eq!(embedded, found, "src/console/embedded.rs has a line for each file");
        for path in &embedded {
            assert!(kind_of(path).is_some(), "{path}");
        }
    }

    #[test]
    fn a_client_that_does_not_want_gzip_gets_none() {
        let takes = |given: &'static str| takes_gzip(Some(&HeaderValue::from_static(given)));
        assert!(takes("gzip") && takes("br, gzip;q=0.5") && takes("GZIP, identity"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("gzip; q=0.0, br") && !takes_gzip(None));
    }
}
