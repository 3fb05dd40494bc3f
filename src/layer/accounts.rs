//! Users and groups with fixed numbers, added to the files of a root before its packages ask for them.
//!
//! Owns lines of passwd(5), group(5), shadow(5) and gshadow(5). base-passwd's `update-passwd` leaves entries alone that
//! it does not know, and `adduser --system` takes what is there.

use std::fmt::Write as _;

/// A user, its group, or a group alone, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Accounts {
    /// Users.
    pub users: Vec<Account>,
    /// Groups: name and number.
    pub groups: Vec<(String, u32)>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group's name.
    pub group: String,
    /// Its number.
    pub gid: u32,
    /// Comment field.
    pub comment: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// The four files; `shadow` and `gshadow` are none where the root has none yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
    /// `/etc/shadow`.
    pub shadow: Option<String>,
    /// `/etc/gshadow`.
    pub gshadow: Option<String>,
}

/// Adds the accounts that are not there. No account gets a password; `epoch` (seconds) dates shadow entries.
///
/// # Errors
/// A message when a name has another number already, or a number another name.
pub fn add(files: &mut Files, accounts: &Accounts, epoch: i64) -> Result<(), String> {
    let own_groups = accounts.users.iter().map(|user| (&user.group, user.gid));
    let groups = accounts.groups.iter().map(|(name, gid)| (name, *gid));
    for (name, gid) in groups.chain(own_groups) {
        if is_new("group", &files.group, name, gid)? {
            let password = if files.gshadow.is_some() { "x" } else { "*" };
            append(&mut files.group, format_args!("{name}:{password}:{gid}:"));
            if let Some(gshadow) = &mut files.gshadow {
                append(gshadow, format_args!("{name}:!::"));
            }
        }
    }
    for user in &accounts.users {
        if is_new("user", &files.passwd, &user.name, user.uid)? {
            let Account { name, uid, gid, comment, home, shell, .. } = user;
            let password = if files.shadow.is_some() { "x" } else { "*" };
            append(&mut files.passwd, format_args!("{name}:{password}:{uid}:{gid}:{comment}:{home}:{shell}"));
            if let Some(shadow) = &mut files.shadow {
                append(shadow, format_args!("{name}:!:{}::::::", epoch / 86_400));
            }
        }
    }
    Ok(())
}

fn append(text: &mut String, line: std::fmt::Arguments<'_>) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let _ = writeln!(text, "{line}");
}

/// Whether neither the name nor the number is there yet.
fn is_new(what: &str, text: &str, name: &str, number: u32) -> Result<bool, String> {
    for line in text.lines() {
        let mut fields = line.split(':');
        let other = fields.next().unwrap_or_default();
        let Some(other_number) = fields.nth(1).and_then(|field| field.parse::<u32>().ok()) else { continue };
        match (other == name, other_number == number) {
            (true, true) => return Ok(false),
            (true, false) => {
                return Err(format!("the {what} `{name}` has the number {other_number} already, not {number}"));
            }
            (false, true) => {
                return Err(format!("the {what} `{other}` has the number {number} already, which `{name}` asks for"));
            }
            (false, false) => {}
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        let user = Account {
            name: "maas".into(),
            uid: 950,
            group: "maas".into(),
            gid: 951,
            comment: String::new(),
            home: "/var/lib/maas".into(),
            shell: "/usr/sbin/nologin".into(),
        };
        Accounts { users: vec![user], groups: vec![("etcd".into(), 960)] }
    }

    #[test]
    fn accounts_are_added_once_with_and_without_shadow_files() {
        let mut files = Files { passwd: "root:*:0:0::/root:/bin/bash".into(), ..Files::default() };
        add(&mut files, &accounts(), 86_400 * 20_000).unwrap();
        assert!(files.passwd.ends_with("bash\nmaas:*:950:951::/var/lib/maas:/usr/sbin/nologin\n"));
        assert_eq!(files.group, "etcd:*:960:\nmaas:*:951:\n");
        let once = files.clone();
        add(&mut files, &accounts(), 0).unwrap();
        assert_eq!(files, once);

        let mut files = Files { shadow: Some(String::new()), gshadow: Some(String::new()), ..Files::default() };
        add(&mut files, &accounts(), 86_400 * 20_000).unwrap();
        assert_eq!(files.shadow.as_deref(), Some("maas:!:20000::::::\n"));
        assert_eq!(files.gshadow.as_deref(), Some("etcd:!::\nmaas:!::\n"));
    }

    #[test]
    fn a_number_or_name_taken_otherwise_is_told() {
        for passwd in ["maas:x:1:1:::\n", "other:x:950:1:::\n"] {
            let mut files = Files { passwd: passwd.into(), ..Files::default() };
            assert!(add(&mut files, &accounts(), 0).unwrap_err().contains("950"), "{passwd}");
        }
    }
}
