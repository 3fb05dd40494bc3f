//! The outputs of roles: what decides them, where they are to be had, and pressing them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::digest::{Digest, Key};
use crate::image::kept::Part;
use crate::image::manifest::{Manifest, PackageFacts};
use crate::image::{self, Pressed, delivered, kept};
use crate::layer::root::{self, Image, RoleRoot};
use crate::layer::{Laid, initrd};
use crate::lock::{self, Lock};
use crate::plan::materials::{Material, materials};
use crate::plan::{self, Plan, RolePlan};
use crate::report::{Diagnostic, Report};
use crate::sys::files;
use crate::tree::Content;

use super::{Build, Built, Explain};

/// How many roles are to be pressed at once: each has its tree and its bills of materials in memory, some 40 MB.
pub(super) const AT_ONCE: usize = 4;

impl Build<'_> {
    /// The directory of a role's outputs.
    fn directory(&self, role: &RolePlan) -> PathBuf {
        let output = &self.arguments.output;
        std::path::absolute(output).unwrap_or_else(|_| output.clone()).join(&role.name)
    }

    /// The roles of which nothing has to be made: their outputs lie there, or are written again from what they are made of.
    pub(super) fn ready(&self, plan: &Plan, lock: &Lock) -> Result<Vec<Option<Built>>, Report> {
        let store = &self.world.store;
        let mut lacking = Vec::new();
        let mut ready = Vec::new();
        for role in &plan.roles {
            let (key, directory) = (self.outputs_key(plan, role, lock), self.directory(role));
            match delivered::recall(store, &key, &directory)? {
                Some(manifest) => {
                    ready.push(Some(Built { directory, manifest, recipes: BTreeMap::new(), reused: true }));
                }
                None => {
                    lacking.push((ready.len(), role, key));
                    ready.push(None);
                }
            }
        }
        let offers: Vec<Key> = lacking.iter().flat_map(|(_, role, _)| self.offers(plan, role, lock)).collect();
        store.ask(&offers.iter().map(kept::key).collect::<Vec<Key>>())?;
        for (index, role, key) in lacking {
            let directory = self.directory(role);
            let Some(manifest) = self.written(plan, role, lock)? else { continue };
            delivered::remember(store, &key, &directory, &manifest)?;
            self.progress.reused(&format!("outputs of {}", manifest.role));
            ready[index] = Some(Built { directory, manifest, recipes: BTreeMap::new(), reused: false });
        }
        Ok(ready)
    }

    /// Under what a role's outputs may be kept: alone, or among all that the image file asks for.
    fn offers(&self, plan: &Plan, role: &RolePlan, lock: &Lock) -> Vec<Key> {
        let mut offers = vec![self.outputs_key(plan, role, lock)];
        let all = &self.project.spec.roles[role.role].formats;
        if *all != role.formats && role.formats.iter().all(|format| all.contains(format)) {
            let whole = RolePlan { formats: all.clone(), ..role.clone() };
            offers.push(self.outputs_key(plan, &whole, lock));
        }
        offers
    }

    /// A role's outputs, written from what was kept of them; none when nothing was.
    fn written(&self, plan: &Plan, role: &RolePlan, lock: &Lock) -> Result<Option<Manifest>, Report> {
        let directory = self.directory(role);
        let materials = self.materials(role, lock);
        for (index, key) in self.offers(plan, role, lock).iter().enumerate() {
            let part = (index > 0).then_some(Part { formats: &role.formats, materials: &materials });
            let written = kept::write(&self.world.store, key, part, &directory, self.progress)?;
            if written.is_some() {
                return Ok(written);
            }
        }
        Ok(None)
    }

    /// What decides a role's outputs, byte by byte.
    fn outputs_key(&self, plan: &Plan, role: &RolePlan, lock: &Lock) -> Key {
        let formats: Vec<String> = role.formats.iter().map(plan::format_name).collect();
        // The same key and certificate sign the same bytes the same, and a certificate is of one key.
        let signed_by = self.signer.map_or_else(String::new, |signer| signer.certificate_digest().to_string());
        Key::new("role.outputs", image::VERSION)
            .input("rolecast", env!("CARGO_PKG_VERSION"))
            .input("root", role.key.digest())
            .input("initrd", initrd::key(plan, self.initrd_files()).digest())
            .input("kernel arguments", role.kernel_arguments.join(" "))
            .input("formats", formats.join(" "))
            .input("slot", self.slot().map_or_else(String::new, |slot| slot.to_string()))
            .input("signed by", signed_by)
            .input("materials", self.materials_digest(role, lock))
            .input("lock", Digest::of(lock::write(lock).as_bytes()))
    }

    /// Bytes of a root slot on the machines' disks; none where no profile has that option.
    fn slot(&self) -> Option<u64> {
        self.project.spec.size_of("disk.slot_size")
    }

    fn materials(&self, role: &RolePlan, lock: &Lock) -> Vec<Material> {
        materials(&self.project.spec, lock, role, self.agent.digest())
    }

    /// A digest of what provenance says of the inputs: a comment in a profile is an input too.
    fn materials_digest(&self, role: &RolePlan, lock: &Lock) -> Digest {
        let listed: Vec<String> = self
            .materials(role, lock)
            .iter()
            .map(|material| format!("{} {} {:?}\n", material.sha256, material.name, material.annotations))
            .collect();
        Digest::of(listed.concat().as_bytes())
    }

    /// What is kept of the roles' outputs, in their order.
    pub(in crate::cli::verb) fn recipes(&self, plan: &Plan, lock: &Lock) -> Vec<Key> {
        plan.roles.iter().map(|role| kept::key(&self.outputs_key(plan, role, lock))).collect()
    }

    /// Presses roles, each with what it stands on, into their directories; in their order.
    pub(super) fn press(
        &self,
        plan: &Plan,
        lock: &Lock,
        waiting: &[(&RolePlan, &Laid)],
        tools: Option<&Laid>,
        initrd: Option<&Content>,
    ) -> Result<Vec<Built>, Report> {
        let (store, progress) = (&self.world.store, self.progress);
        let orders: Vec<Order<'_>> =
            waiting.par_iter().map(|(role, top)| self.order(plan, lock, role, top)).collect::<Result<_, _>>()?;
        let requests: Vec<image::Request<'_>> =
            orders.iter().map(|order| self.request(plan, lock, order, tools, initrd)).collect();
        let delivered: Vec<OnceLock<Result<Built, Report>>> = orders.iter().map(|_| OnceLock::new()).collect();
        rayon::scope(|scope| {
            for ((order, request), delivered) in orders.iter().zip(&requests).zip(&delivered) {
                // One after another: what roles have in common is compressed by the first of them. Meanwhile those before
                // it write and hash bytes of their own.
                let prepared = image::prepare(request, store, progress)?;
                scope.spawn(move |_| drop(delivered.set(self.deliver(order, prepared))));
            }
            Ok::<_, Report>(())
        })?;
        delivered.into_iter().filter_map(OnceLock::into_inner).collect()
    }

    /// Writes a role's outputs, and keeps what they are made of.
    fn deliver(&self, order: &Order<'_>, prepared: image::Prepared<'_>) -> Result<Built, Report> {
        let (store, Order { key, directory, .. }) = (&self.world.store, order);
        let pressed = prepared.deliver(directory, store, self.progress)?;
        kept::keep(store, key, directory, &pressed)?;
        let Pressed { manifest, mut recipes } = pressed;
        if self.explain == Explain::Nothing {
            recipes.clear();
        }
        delivered::remember(store, key, directory, &manifest)?;
        Ok(Built { directory: directory.clone(), manifest, recipes, reused: false })
    }

    /// A role's root, and all else that is told of it.
    fn order<'p>(&self, plan: &Plan, lock: &Lock, role: &'p RolePlan, top: &'p Laid) -> Result<Order<'p>, Report> {
        let directory = self.directory(role);
        files::make_directory(&directory).map_err(Diagnostic::from)?;
        let layers: Vec<String> = role.layers.iter().map(|layer| plan.layers[*layer].name.clone()).collect();
        let spec = &self.project.spec;
        let names =
            Image { name: &spec.name, version: &spec.version, layers: &layers, agent: &self.agent, epoch: plan::EPOCH };
        let root = root::assemble(role, top, names, &self.world.store)?;
        if root.reused {
            self.progress.reused(&format!("root of {}", role.name));
        }
        let (key, materials) = (self.outputs_key(plan, role, lock), self.materials(role, lock));
        Ok(Order { role, base: top.digest, key, directory, layers, materials, root })
    }

    fn request<'o>(
        &'o self,
        plan: &Plan,
        lock: &'o Lock,
        order: &'o Order<'_>,
        tools: Option<&'o Laid>,
        initrd: Option<&Content>,
    ) -> image::Request<'o> {
        let spec = &self.project.spec;
        let Order { role, base, layers, materials, root, .. } = order;
        let dates = lock.archives.iter().flat_map(|archive| &archive.suites).map(|suite| suite.date);
        image::Request {
            image: &spec.name,
            version: &spec.version,
            role: &role.name,
            layers,
            distribution: &lock.distribution,
            lock: Digest::of(lock::write(lock).as_bytes()),
            locked: lock,
            materials,
            options: spec.options.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
            released: dates.max().unwrap_or(plan::EPOCH),
            tree: &root.tree,
            shown: root.tree.digest(),
            stored: root.stored,
            base: *base,
            tools: tools.map_or(&root.tree, |tools| &tools.tree),
            initrd: initrd.copied().filter(|_| plan::boots(&role.formats)),
            signer: self.signer,
            kernel_arguments: &role.kernel_arguments,
            formats: &role.formats,
            slot: self.slot(),
            late: role.late(),
            state: role.state.iter().map(|state| format!("/{}", state.path)).collect(),
            packages: packages(plan, role),
            epoch: plan::EPOCH,
        }
    }
}

/// A role that is to be pressed.
struct Order<'p> {
    role: &'p RolePlan,
    /// The stored configured tree that it stands on.
    base: Digest,
    /// What decides its outputs.
    key: Key,
    directory: PathBuf,
    layers: Vec<String>,
    materials: Vec<Material>,
    root: RoleRoot,
}

/// The packages of a role's layers, for the manifest.
fn packages(plan: &Plan, role: &RolePlan) -> Vec<PackageFacts> {
    let layers = role.layers.iter().map(|layer| &plan.layers[*layer]);
    layers
        .flat_map(|layer| {
            layer.packages.iter().map(|package| PackageFacts {
                layer: layer.name.clone(),
                name: package.name.clone(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                sha256: package.sha256,
            })
        })
        .collect()
}
