//! Text in HTML and XML.

/// Text as HTML and XML 1.0 (section 2.2), also inside quotes of either kind. What a document cannot hold becomes U+FFFD: a
/// journal can bring it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place_and_what_no_document_holds_is_replaced() {
        assert_eq!(escape("<a b='c' d=\"e\">&\n\té"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;\n\té");
        assert_eq!(
            escape("\0\u{1b}[0m\r\u{85}\u{fffe}\u{ffff}"),
            "\u{fffd}\u{fffd}[0m\u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
    }
}
