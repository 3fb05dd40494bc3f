//! What a network server hands out beside images and seeds: boot scripts by MAC address, and dnsmasq's configuration.
//!
//! Pure texts. iPXE: <https://ipxe.org/scripting>; GRUB: its manual, section "Network"; dnsmasq: dnsmasq(8).

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::report::{Diagnostic, Kind};
use crate::spec::{Cluster, NodeFacts};

/// Where the server is, as machines reach it: `http://10.77.0.1:8080`, maybe with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
}

impl ServerUrl {
    /// Reads a URL. It goes into kernel command lines and scripts, so nothing in it may need quoting.
    ///
    /// # Errors
    /// When it is not `http://` or `https://` and plain characters.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let text = text.trim_end_matches('/');
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let plain = |character: char| character.is_ascii_alphanumeric() || "-._~:/[]".contains(character);
        match rest {
            Some(rest) if !rest.is_empty() && !rest.starts_with(['/', ':']) && rest.chars().all(plain) => {
                Ok(Self { text: text.to_owned() })
            }
            _ => Err(Diagnostic::error(Kind::Usage, format!("`{text}` is no address of a server"))
                .hint("for example `--url http://10.77.0.1:8080`")),
        }
    }

    /// Whether anyone on the way can read what it hands out.
    pub fn is_open(&self) -> bool {
        self.text.starts_with("http://")
    }

    /// The address of a file.
    pub fn of(&self, path: &str) -> String {
        format!("{}/{path}", self.text)
    }

    /// What follows the host: empty, or `/` and more.
    fn path(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        rest.find('/').map_or("", |at| &rest[at..])
    }

    /// The host, where it is an IPv4 address.
    fn address(&self) -> Option<Ipv4Addr> {
        let rest = self.text.split_once("://")?.1;
        rest.split(['/', ':']).next()?.parse().ok()
    }
}

/// A machine that boots over the network.
#[derive(Clone, Copy, Debug)]
pub struct Booted<'a> {
    /// The machine.
    pub node: &'a NodeFacts,
    /// Its MAC address, lower case with colons.
    pub mac: &'a str,
    /// The directory of its kernel, initrd and root, from the tree's top.
    pub image: &'a str,
    /// The kernel command line of its image.
    pub command_line: &'a str,
}

impl Booted<'_> {
    /// Name of the iPXE script, from the tree's top.
    pub fn ipxe_path(&self) -> String {
        format!("boot/{}.ipxe", self.hyphenated())
    }

    /// Name under which GRUB looks for this machine's script: `01` is Ethernet (RFC 1700, hardware types).
    pub fn grub_path(&self) -> String {
        format!("grub/grub.cfg-01-{}", self.hyphenated())
    }

    fn hyphenated(&self) -> String {
        self.mac.replace(':', "-")
    }

    /// The word of the kernel command line that leads cloud-init to the seed.
    fn seed_word(&self, url: &ServerUrl) -> String {
        format!("ds=nocloud;s={}/", url.of(&format!("seed/{}", self.node.name)))
    }

    /// The iPXE script.
    pub fn ipxe(&self, url: &ServerUrl) -> String {
        let file = |name: &str| url.of(&format!("{}/{name}", self.image));
        format!(
            "#!ipxe\n\
             # Boots {node}, a {role}.\n\
             kernel {kernel} {command_line} {seed} || goto failed\n\
             initrd {initrd} || goto failed\n\
             initrd {root} /root.img mode=0644 || goto failed\n\
             boot || goto failed\n\
             :failed\n\
             echo rolecast: a file of {node} could not be loaded; trying again in 10 seconds\n\
             sleep 10\n\
             reboot\n",
            node = self.node.name,
            role = self.node.role,
            kernel = file("vmlinuz"),
            initrd = file("initrd.img"),
            root = file("root.img"),
            command_line = self.command_line,
            seed = self.seed_word(url),
        )
    }

    /// The GRUB script. Files come from where GRUB itself came from, by TFTP or HTTP.
    pub fn grub(&self, url: &ServerUrl) -> String {
        // Over TFTP the tree's top is the server's; over HTTP the path of the address comes before it.
        let below = match url.path() {
            "" => String::new(),
            path => format!("if regexp '^http' \"$root\"; then\n    set top='{path}'\nfi\n"),
        };
        format!(
            "# Boots {node}, a {role}.\n\
             set top=\n\
             {below}\
             linux $top/{image}/vmlinuz {command_line} '{seed}'\n\
             initrd $top/{image}/initrd.img newc:root.img:$top/{image}/root.img\n\
             boot\n",
            node = self.node.name,
            role = self.node.role,
            image = self.image,
            command_line = self.command_line,
            seed = self.seed_word(url),
        )
    }
}

/// dnsmasq's configuration: DHCP and TFTP for the listed machines and for nobody else; no DNS.
pub fn dnsmasq(cluster: &Cluster, machines: &[Booted<'_>], url: &ServerUrl, top: &Path) -> String {
    let mut text = format!(
        "# Boots the machines of cluster {name} over the network, and answers no other: dnsmasq --conf-file=THIS\n\
         # Firmware loads ipxe.efi or undionly.kpxe from the top of the tree (Debian's package ipxe has them in\n\
         # /usr/lib/ipxe), or GRUB as grubnetx64.efi; iPXE goes on with the machine's script.\n\
         port=0\n",
        name = cluster.name,
    );
    if let Some(address) = url.address() {
        let _ = write!(text, "bind-dynamic\nlisten-address={address}\n");
    }
    let _ = write!(
        text,
        "enable-tftp\n\
         tftp-root={top}\n\
         \n\
         # Static: no address but those listed, and no word to anyone else.\n\
         dhcp-range={network},static,{netmask},1h\n\
         dhcp-ignore=tag:!known\n",
        top = top.display(),
        network = cluster.network,
        netmask = netmask(cluster.prefix),
    );
    match cluster.gateway {
        Some(gateway) => {
            let _ = writeln!(text, "dhcp-option=option:router,{gateway}");
        }
        // An empty option is not sent; left out, dnsmasq would name itself.
        None => text.push_str("dhcp-option=option:router\n"),
    }
    text.push_str(
        "dhcp-option=option:dns-server\n\
         \n\
         # Option 175 is iPXE's own; 93 says what firmware asks.\n\
         dhcp-match=set:ipxe,175\n\
         dhcp-match=set:efi,option:client-arch,7\n\
         dhcp-match=set:efi,option:client-arch,9\n\
         dhcp-boot=tag:!ipxe,tag:efi,ipxe.efi\n\
         dhcp-boot=tag:!ipxe,tag:!efi,undionly.kpxe\n",
    );
    for machine in machines {
        let NodeFacts { name, address, .. } = machine.node;
        let _ = write!(
            text,
            "\ndhcp-host={mac},set:{name},{address},{name}\ndhcp-boot=tag:ipxe,tag:{name},{script}\n",
            mac = machine.mac,
            script = url.of(&machine.ipxe_path()),
        );
    }
    text
}

fn netmask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_server_needs_no_quoting() {
        for (text, path, open) in [
            ("http://10.77.0.1:8080", "", true),
            ("https://boot.example/pxe/", "/pxe", false),
            ("http://[2001:db8::1]:80/a/b", "/a/b", true),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!((url.path(), url.is_open()), (path, open), "{text}");
        }
        for wrong in
            ["", "10.77.0.1", "ftp://x", "http://", "http:///x", "http://a b", "http://a;b", "http://a'b", "http://$x"]
        {
            assert!(ServerUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ServerUrl::parse("http://10.77.0.1:8080").unwrap().address(), Some(Ipv4Addr::new(10, 77, 0, 1)));
        assert_eq!(ServerUrl::parse("http://boot.example").unwrap().address(), None);
    }

    #[test]
    fn netmasks() {
        let cases = [(0, "0.0.0.0"), (8, "255.0.0.0"), (24, "255.255.255.0"), (32, "255.255.255.255")];
        for (prefix, mask) in cases {
            assert_eq!(netmask(prefix).to_string(), mask);
        }
    }
}
