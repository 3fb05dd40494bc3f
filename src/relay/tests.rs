//! Against a server that may lie: what `systemd-pull` gets is the server's file, or no file at all.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::archive::Patience;
use crate::archive::testing::{Answer as Told, Server, impatient};

const NAME: &str = "rack_2_aa.root";
const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n";

/// Bytes without a pattern, the same every time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A server with version 2, and a machine with version 1, which differs in its head and in one place more.
struct World {
    server: Server,
    new: Vec<u8>,
    index: Vec<u8>,
    machine: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let old = noise(6 << 20, 1);
        let mut new = old.clone();
        new[..96].copy_from_slice(&noise(96, 2));
        new.splice(3 << 20..3 << 20, noise(4096, 3));
        let index = Index::of(new.as_slice()).unwrap().write();
        let machine = tempfile::tempdir().unwrap();
        fs::write(machine.path().join("slot"), old).unwrap();
        let world = Self { server: Server::new(BTreeMap::new()), new, index, machine };
        world.publish(&world.index);
        world
    }

    /// Publishes the file with `index` beside it, and the list.
    fn publish(&self, index: &[u8]) {
        let names = [(NAME.to_owned(), self.new.as_slice()), (format!("index-{NAME}.caibx"), index)];
        let mut list = String::new();
        for (name, bytes) in &names {
            self.server.answer(name, Told::File(bytes.to_vec()));
            list += &format!("{}  {name}\n", Digest::of(bytes));
        }
        self.server.answer("SHA256SUMS", Told::File(list.into_bytes()));
    }

    /// Asks for `name`: the answer, and what was told.
    fn ask(&self, name: &str) -> (Vec<u8>, Vec<String>) {
        let own = |_: &str| vec![self.machine.path().join("slot")];
        let client = Client::new(Patience { attempts: 9, ..impatient() });
        let (mut output, mut told) = (Vec::new(), Vec::new());
        let relay = Relay { upstream: &self.server.url(), client: &client, own: &own };
        let request = format!("GET /{name} HTTP/1.1\r\nHost: 127.0.0.1:7140\r\n\r\n");
        relay.answer(&mut request.as_bytes(), &mut output, &mut |text| told.push(text.to_owned())).unwrap();
        (output, told)
    }

    /// Asks for the file, which has to come as it is; returns what was told.
    #[track_caller]
    fn comes(&self) -> Vec<String> {
        let (answer, told) = self.ask(NAME);
        let body = answer.strip_prefix(GOOD.as_bytes()).expect("a good answer");
        assert!(body == self.new, "{} bytes instead of {}: {told:?}", body.len(), self.new.len());
        told
    }
}

/// Bytes fetched and bytes that were here.
fn moved(told: &[String]) -> (u64, u64) {
    let [line] = told else { panic!("{told:?}") };
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn only_what_differs_is_fetched_and_neighbours_come_together() {
    let world = World::new();
    let told = world.comes();
    let (fetched, held) = moved(&told);
    assert_eq!(fetched + held, world.new.len() as u64);
    assert!((4096..1 << 20).contains(&fetched), "{told:?}");
    let requests = world.server.take_requests();
    let parts = requests.iter().filter(|path| *path == NAME).count();
    assert_eq!(requests[..2], ["SHA256SUMS".to_owned(), format!("index-{NAME}.caibx")]);
    assert_eq!(parts, 2, "{requests:?}");
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let world = World::new();
    world.server.answer(NAME, Told::Breaking(world.new.clone(), 50_000));
    let (fetched, held) = moved(&world.comes());
    assert_eq!(fetched + held, world.new.len() as u64);
}

#[test]
fn without_an_index_that_is_vouched_for_the_file_comes_whole() {
    let world = World::new();
    let mut other = world.index.clone();
    other[70] ^= 1;
    let index = format!("index-{NAME}.caibx");
    for (answer, why) in [(Told::File(other), "is not the one of the list"), (Told::Status(404), "is not there")] {
        world.server.answer(&index, answer);
        let told = world.comes();
        assert!(told[0].contains("is fetched whole") && told[0].contains(why), "{told:?}");
    }
    world.publish(b"no index");
    assert!(world.comes()[0].contains("it is no casync index"));
}

#[test]
fn a_server_that_knows_no_parts_sends_the_whole() {
    let world = World::new();
    world.server.answer(NAME, Told::WholeFile(world.new.clone()));
    let told = world.comes();
    assert!(told[0].contains("whole from byte 0 on") && told[0].contains("answered whole"), "{told:?}");
}

/// An index that the list vouches for and that is of another file: the file comes, because the server's is good.
#[test]
fn a_lying_index_costs_bytes_and_changes_none() {
    let world = World::new();
    let mut other = world.new.clone();
    other[5 << 20] ^= 1;
    world.publish(&Index::of(other.as_slice()).unwrap().write());
    let told = world.comes();
    assert!(told[0].contains("are not those of the index"), "{told:?}");
}

#[test]
fn a_slot_that_was_written_to_or_is_empty_is_no_hindrance() {
    let world = World::new();
    let slot = world.machine.path().join("slot");
    for content in [Vec::new(), noise(1 << 20, 9), vec![0; 1 << 20]] {
        fs::write(&slot, content).unwrap();
        assert_eq!(moved(&world.comes()), (world.new.len() as u64, 0));
    }
    fs::remove_file(&slot).unwrap();
    assert!(world.comes().is_empty(), "nothing to tell where there is nothing to compare with");
}

#[test]
fn bytes_that_the_index_does_not_name_are_never_passed_on_as_chunks() {
    let world = World::new();
    let mut altered = world.new.clone();
    altered[(3 << 20) + 5] ^= 1;
    world.server.answer(NAME, Told::File(altered.clone()));
    let (answer, told) = world.ask(NAME);
    // What the server has is sent in the end, told, and refused by systemd, which knows its digest.
    assert!(told[0].contains("are not those of the index"), "{told:?}");
    assert!(answer.strip_prefix(GOOD.as_bytes()) == Some(&altered[..]));
}

#[test]
fn a_server_without_the_file_or_without_an_answer_is_told() {
    let world = World::new();
    assert!(world.ask("rack_3.efi").0.starts_with(b"HTTP/1.1 404 "));
    world.server.answer("SHA256SUMS", Told::Status(500));
    assert!(world.ask("SHA256SUMS").0.starts_with(b"HTTP/1.1 502 "));
    world.server.answer("SHA256SUMS", Told::Endless);
    assert!(world.ask("SHA256SUMS").0.starts_with(b"HTTP/1.1 502 "));
    world.server.answer("SHA256SUMS.gpg", Told::File(b"signature".to_vec()));
    assert_eq!(world.ask("SHA256SUMS.gpg").0, [GOOD.as_bytes(), b"signature"].concat());
}

/// The one who asks goes away: the server is not asked for the rest.
#[test]
fn nothing_more_is_fetched_for_one_who_left() {
    struct Leaves(usize);
    impl Write for Leaves {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let world = World::new();
    let own = |_: &str| vec![world.machine.path().join("slot")];
    let client = Client::new(impatient());
    let relay = Relay { upstream: &world.server.url(), client: &client, own: &own };
    let request = format!("GET /{NAME} HTTP/1.1\r\n\r\n");
    let _ = relay.answer(&mut request.as_bytes(), &mut Leaves(1 << 20), &mut |_| {});
    let parts = world.server.take_requests().iter().filter(|path| *path == NAME).count();
    assert_eq!(parts, 1);
}

#[test]
fn a_machine_looks_where_it_runs_from() {
    let root = tempfile::tempdir().unwrap();
    let kernels = root.path().join("efi/EFI/Linux");
    fs::create_dir_all(&kernels).unwrap();
    for name in ["rack_1+3-0.efi", "other_1.efi", "rack_1.txt"] {
        fs::write(kernels.join(name), "").unwrap();
    }
    let own = |name: &str| own(root.path(), "rack", "1", name);
    assert_eq!(own("rack_2_aa.root"), [root.path().join("dev/mapper/root")]);
    assert_eq!(own("rack_2_bb.verity"), [root.path().join("dev/disk/by-partlabel/verity_1")]);
    assert_eq!(own("rack_2.efi"), [kernels.join("rack_1+3-0.efi")]);
    assert!(own("SHA256SUMS").is_empty());
}
