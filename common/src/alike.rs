//! Which known names may have been meant by an unknown one.

/// How alike two names must be for one to be meant by the other (Jaro-Winkler similarity, 1 is equal).
const ALIKE: f64 = 0.85;

/// How many names are offered.
const OFFERED: usize = 3;

/// A question after the names that may have been meant, for the end of an error, or nothing. Names that share a
/// `prefix` are compared without it.
pub(crate) fn meant<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    prefix: &str,
) -> String {
    let bare = |name: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    let name = bare(name);
    let mut found: Vec<_> = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name, &bare(known)), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<_> = found
        .iter()
        .take(OFFERED)
        .map(|(_, known)| *known)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; is {} meant?", names.join(" or "))
    }
}
