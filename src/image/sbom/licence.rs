//! From the short names of `debian/copyright` to SPDX licence expressions.
//!
//! Cautious: a name that could mean two things, or an exception that SPDX does not list under that name, makes the
//! whole package unknown, because a wrong licence is worse than none. Specifications: DEP-5 (syntax of `License`),
//! SPDX 2.3 annex D (expressions), the SPDX licence list.

use std::collections::BTreeSet;

/// Longest text that is looked at; what is longer is a licence's text in the wrong place.
const LONGEST: usize = 400;

/// SPDX identifiers that Debian's packages use as they are, in whatever case.
const SAME: &[&str] = &[
    "0BSD",
    "AFL-2.1",
    "AFL-3.0",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "Beerware",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDDL-1.0",
    "curl",
    "EPL-1.0",
    "EPL-2.0",
    "FSFAP",
    "FSFUL",
    "FSFULLR",
    "FTL",
    "HPND",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "NTP",
    "OFL-1.1",
    "PostgreSQL",
    "Sleepycat",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Vim",
    "W3C",
    "WTFPL",
    "X11",
    "Zlib",
];

/// Names that DEP-5 defines otherwise than SPDX, in lower case.
const OTHERS: &[(&str, &str)] = &[
    ("expat", "MIT"),
    ("openldap-2.8", "OLDAP-2.8"),
    ("psf-2", "PSF-2.0"),
    ("python-2.0", "Python-2.0"),
    ("mpl-2", "MPL-2.0"),
    ("apache-2", "Apache-2.0"),
    ("boost-1.0", "BSL-1.0"),
    ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
    ("gfdl-niv-1.3", "GFDL-1.3-no-invariants-only"),
    ("gfdl-niv-1.3+", "GFDL-1.3-no-invariants-or-later"),
];

/// Exceptions of which there is one by that name.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("linux-syscall-note exception", "Linux-syscall-note"),
    ("bison exception", "Bison-exception-2.2"),
    ("libtool exception", "Libtool-exception"),
];

/// GNU's families with the versions that the SPDX list has.
const GNU: &[(&str, &[&str])] =
    &[("gpl", &["1.0", "2.0", "3.0"]), ("lgpl", &["2.0", "2.1", "3.0"]), ("agpl", &["1.0", "3.0"])];

/// The SPDX expression that all of `names` together mean; none when one of them has no certain meaning.
pub fn expression(names: &BTreeSet<&str>) -> Option<String> {
    let known: Option<BTreeSet<Term>> = names.iter().map(|name| with_commas(name)).collect();
    join(known?, "AND").map(|term| term.text())
}

/// A part of an expression: one identifier, or several under one operator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Term {
    parts: BTreeSet<String>,
    operator: Option<&'static str>,
}

impl Term {
    fn text(&self) -> String {
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        parts.join(&self.operator.map_or(String::new(), |operator| format!(" {operator} ")))
    }
}

/// Terms under one operator: those that are under the same already are taken in, so that none stands twice.
fn join(terms: BTreeSet<Term>, operator: &'static str) -> Option<Term> {
    if terms.len() == 1 {
        return terms.into_iter().next();
    }
    let mut parts = BTreeSet::new();
    for term in terms {
        match term.operator {
            Some(other) if other != operator => {
                parts.insert(format!("({})", term.text()));
            }
            _ => parts.extend(term.parts),
        }
    }
    let operator = (parts.len() > 1).then_some(operator);
    (!parts.is_empty()).then_some(Term { parts, operator })
}

/// DEP-5: `and` binds more tightly than `or`, and a comma before either makes it the weakest.
fn with_commas(text: &str) -> Option<Term> {
    if text.len() > LONGEST {
        return None;
    }
    let text = text.to_ascii_lowercase();
    match (text.contains(", and "), text.contains(", or ")) {
        (false, false) => alternatives(&text),
        (true, false) => join(text.split(", and ").map(alternatives).collect::<Option<_>>()?, "AND"),
        (false, true) => join(text.split(", or ").map(alternatives).collect::<Option<_>>()?, "OR"),
        (true, true) => None,
    }
}

fn alternatives(text: &str) -> Option<Term> {
    join(text.split(" or ").map(conjunction).collect::<Option<_>>()?, "OR")
}

fn conjunction(text: &str) -> Option<Term> {
    let single =
        |name: &str| identifier(name.trim()).map(|text| Term { parts: BTreeSet::from([text]), operator: None });
    join(text.split(" and ").map(single).collect::<Option<_>>()?, "AND")
}

/// The SPDX identifier of one short name in lower case.
fn identifier(name: &str) -> Option<String> {
    if let Some(same) = SAME.iter().find(|same| same.eq_ignore_ascii_case(name)) {
        return Some((*same).to_owned());
    }
    if let Some((_, spdx)) = OTHERS.iter().find(|(other, _)| *other == name) {
        return Some((*spdx).to_owned());
    }
    match name.split_once(" with ") {
        None => gnu(name),
        Some((licence, exception)) => {
            let (_, spdx) = EXCEPTIONS.iter().find(|(known, _)| *known == exception)?;
            Some(format!("{} WITH {spdx}", gnu(licence)?))
        }
    }
}

/// `gpl-2+`, `lgpl-2.1`, `gplv3+`, `gpl-2.0-or-later`.
fn gnu(name: &str) -> Option<String> {
    let (family, version) = name.split_once("-v").or_else(|| name.split_once(['-', 'v']))?;
    let (_, versions) = GNU.iter().find(|(known, _)| *known == family)?;
    let (version, later) = match version.strip_suffix('+').or_else(|| version.strip_suffix("-or-later")) {
        Some(version) => (version, true),
        None => (version.strip_suffix("-only").unwrap_or(version), false),
    };
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    let known = versions.contains(&version.as_str());
    let which = if later { "or-later" } else { "only" };
    known.then(|| format!("{}-{version}-{which}", family.to_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_names_become_expressions_and_others_nothing() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["GPL-2+"], Some("GPL-2.0-or-later")),
            (&["LGPL-2.1"], Some("LGPL-2.1-only")),
            (&["GPLv3+"], Some("GPL-3.0-or-later")),
            (&["GPL-2.0-only"], Some("GPL-2.0-only")),
            (&["Expat", "MIT"], Some("MIT")),
            (&["BSD-3-clause", "ISC"], Some("BSD-3-Clause AND ISC")),
            (&["GPL-2+ or Expat", "ISC"], Some("(GPL-2.0-or-later OR MIT) AND ISC")),
            (&["GPL-2+ and ISC", "GPL-2+", "Expat"], Some("GPL-2.0-or-later AND ISC AND MIT")),
            (&["GPL-2 with Linux-syscall-note exception"], Some("GPL-2.0-only WITH Linux-syscall-note")),
            (&["GPL-2 and ISC or Expat"], Some("(GPL-2.0-only AND ISC) OR MIT")),
            (&["GPL-2 or Expat, and ISC"], Some("(GPL-2.0-only OR MIT) AND ISC")),
            // Two works under the name Artistic, no version, an exception, the public domain, something of nobody's.
            (&["GPL-1+ or Artistic"], None),
            (&["GPL"], None),
            (&["GPL-4"], None),
            (&["LGPL-1.0"], None),
            (&["GPL-2+ with OpenSSL exception"], None),
            (&["public-domain", "ISC"], None),
            (&["BSD"], None),
            (&["a, or b, and c"], None),
            (&[" or "], None),
            (&[], None),
        ];
        for (names, expected) in cases {
            let names = names.iter().copied().collect();
            assert_eq!(expression(&names).as_deref(), *expected, "{names:?}");
        }
        assert_eq!(expression(&BTreeSet::from(["ISC or ".repeat(200).as_str()])), None);
    }
}
