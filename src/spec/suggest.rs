//! "Did you mean": the nearest of the names that would have been right.

/// The name nearest to `written`, when it is near enough to be what was meant. Ties go to the first.
pub fn nearest<'names>(written: &str, names: impl IntoIterator<Item = &'names str>) -> Option<&'names str> {
    let limit = (written.chars().count() / 3).clamp(1, 4);
    let measured = names.into_iter().map(|name| (distance(written, name, limit), name));
    measured.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Advice for a wrong name: the nearest one, else all of them when they are few.
pub fn advice<'names>(written: &str, names: impl IntoIterator<Item = &'names str> + Clone) -> Option<String> {
    if let Some(name) = nearest(written, names.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => None,
        1 => Some(format!("there is only {}", names[0])),
        2..=24 => Some(format!("there are {}", names.join(", "))),
        many => Some(format!("there are {many}, among them {}", names[..12].join(", "))),
    }
}

/// Edits (insert, delete, replace, swap neighbours) between two texts; anything above `limit` is some number above it.
fn distance(one: &str, other: &str, limit: usize) -> usize {
    let one: Vec<char> = one.chars().take(256).collect();
    let other: Vec<char> = other.chars().take(256).collect();
    if one.len().abs_diff(other.len()) > limit {
        return limit + 1;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, left) in one.iter().enumerate() {
        let mut line = vec![row + 1; other.len() + 1];
        for (column, right) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(left != right);
            line[column + 1] = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            let swapped = row > 0 && column > 0 && *left == other[column - 1] && one[row - 1] == *right;
            if swapped {
                line[column + 1] = line[column + 1].min(before_last[column - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, line);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["packages", "recommends", "overlay", "kernel-arguments"];
        for (written, expected) in [
            ("package", Some("packages")),
            ("pakcages", Some("packages")),
            ("kernel_arguments", Some("kernel-arguments")),
            ("overlays", Some("overlay")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), expected, "{written}");
        }
    }
}
