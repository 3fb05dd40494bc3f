//! DHCP as MAAS has it, and its pairs of racks.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::api::Api;
use crate::join::world::{DhcpPair, Trouble};
use crate::ticket::{Dhcp, Ticket};

/// What MAAS says that concerns DHCP.
#[derive(Clone, Debug, Default)]
struct Told {
    subnets: Value,
    ranges: Value,
    racks: Value,
}

/// A subnet's VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vlan {
    id: u64,
    fabric: u64,
    number: u64,
    on: bool,
    primary: Option<String>,
    secondary: Option<String>,
}

/// [`crate::join::world::Question::Dhcp`].
///
/// # Errors
/// When MAAS does not answer.
pub fn look(api: &Api<'_>, ticket: &Ticket) -> Result<Vec<DhcpPair>, Trouble> {
    if ticket.cluster.dhcp.is_empty() {
        return Ok(Vec::new());
    }
    let told = ask(api)?;
    Ok(ticket.cluster.dhcp.iter().map(|wanted| pair(&told, wanted)).collect())
}

fn ask(api: &Api<'_>) -> Result<Told, Trouble> {
    Ok(Told { subnets: api.read("subnets/")?, ranges: api.read("ipranges/")?, racks: api.read("rackcontrollers/")? })
}

/// How one range of the ticket stands.
fn pair(told: &Told, wanted: &Dhcp) -> DhcpPair {
    let vlan = vlan_of(&told.subnets, &wanted.subnet);
    let name = |id: &Option<String>| id.as_deref().and_then(|id| rack_name(&told.racks, id));
    let names = [Some(&wanted.primary), wanted.secondary.as_ref()];
    let ready = |vlan: &Vlan| {
        names.into_iter().flatten().all(|name| rack(&told.racks, name).is_some_and(|rack| sees(rack, vlan)))
    };
    DhcpPair {
        subnet: wanted.subnet.clone(),
        ready: vlan.as_ref().is_some_and(ready),
        on: vlan.as_ref().is_some_and(|vlan| vlan.on),
        primary: vlan.as_ref().and_then(|vlan| name(&vlan.primary)),
        secondary: vlan.as_ref().and_then(|vlan| name(&vlan.secondary)),
    }
}

/// Gives MAAS the range where it is missing, and switches DHCP on with the pair.
///
/// # Errors
/// When MAAS does not know subnet or racks yet, or refuses.
pub fn set(api: &Api<'_>, ticket: &Ticket, subnet: &str) -> Result<(), Trouble> {
    let wanted = ticket.cluster.dhcp.iter().find(|dhcp| dhcp.subnet == subnet);
    let wanted = wanted.ok_or_else(|| Trouble(format!("the ticket has no DHCP range in {subnet}")))?;
    let told = ask(api)?;
    let vlan = vlan_of(&told.subnets, subnet).ok_or_else(|| Trouble(format!("MAAS does not know {subnet} yet")))?;
    let id = |name: &str| {
        let missing = || Trouble(format!("rack `{name}` is not registered with MAAS"));
        rack(&told.racks, name).and_then(|rack| rack["system_id"].as_str()).map(str::to_owned).ok_or_else(missing)
    };
    let primary = id(&wanted.primary)?;
    let secondary = wanted.secondary.as_deref().map(id).transpose()?;
    if !has_range(&told.ranges, wanted) {
        let (first, last) = (wanted.first.to_string(), wanted.last.to_string());
        let comment = "rolecast";
        let fields =
            [("type", "dynamic"), ("start_ip", &first), ("end_ip", &last), ("subnet", subnet), ("comment", comment)];
        api.write("POST", "ipranges/", &fields)?;
    }
    let mut fields = vec![("dhcp_on", "true"), ("primary_rack", primary.as_str())];
    if let Some(secondary) = &secondary {
        fields.push(("secondary_rack", secondary));
    }
    api.write("PUT", &format!("fabrics/{}/vlans/{}/", vlan.fabric, vlan.number), &fields)
}

/// The rack controller with a host name.
pub fn rack<'a>(racks: &'a Value, name: &str) -> Option<&'a Value> {
    racks.as_array()?.iter().find(|rack| rack["hostname"] == name)
}

fn rack_name(racks: &Value, id: &str) -> Option<String> {
    let rack = racks.as_array()?.iter().find(|rack| rack["system_id"] == id)?;
    rack["hostname"].as_str().map(str::to_owned)
}

/// Whether a card of the rack is in the VLAN.
fn sees(rack: &Value, vlan: &Vlan) -> bool {
    let cards = rack["interface_set"].as_array();
    cards.is_some_and(|cards| cards.iter().any(|card| card["vlan"]["id"].as_u64() == Some(vlan.id)))
}

fn vlan_of(subnets: &Value, cidr: &str) -> Option<Vlan> {
    let subnet = subnets.as_array()?.iter().find(|subnet| subnet["cidr"] == cidr)?;
    let vlan = &subnet["vlan"];
    let text = |name: &str| vlan[name].as_str().map(str::to_owned);
    Some(Vlan {
        id: vlan["id"].as_u64()?,
        fabric: vlan["fabric_id"].as_u64()?,
        number: vlan["vid"].as_u64()?,
        on: vlan["dhcp_on"].as_bool().unwrap_or(false),
        primary: text("primary_rack"),
        secondary: text("secondary_rack"),
    })
}

/// Whether a dynamic range of MAAS's covers the one that is wanted.
fn has_range(ranges: &Value, wanted: &Dhcp) -> bool {
    let address = |range: &Value, name: &str| range[name].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
    let covers = |range: &Value| {
        range["type"] == "dynamic"
            && address(range, "start_ip").is_some_and(|first| first <= wanted.first)
            && address(range, "end_ip").is_some_and(|last| last >= wanted.last)
    };
    ranges.as_array().is_some_and(|ranges| ranges.iter().any(covers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told() -> Told {
        Told {
            subnets: json!([{ "id": 1, "cidr": "10.77.0.0/24", "vlan": { "id": 5001, "vid": 0, "fabric_id": 3,
                "dhcp_on": true, "primary_rack": "aaa", "secondary_rack": null } }]),
            ranges: json!([{ "type": "dynamic", "start_ip": "10.77.0.100", "end_ip": "10.77.0.200" }]),
            racks: json!([{ "hostname": "rack-1", "system_id": "aaa", "interface_set": [{ "vlan": { "id": 5001 } }] },
                { "hostname": "rack-2", "system_id": "bbb", "interface_set": [{ "vlan": null }] }]),
        }
    }

    fn wanted(secondary: Option<&str>) -> Dhcp {
        Dhcp {
            subnet: "10.77.0.0/24".into(),
            first: Ipv4Addr::new(10, 77, 0, 100),
            last: Ipv4Addr::new(10, 77, 0, 200),
            primary: "rack-1".into(),
            secondary: secondary.map(str::to_owned),
        }
    }

    #[test]
    fn a_pair_is_ready_when_both_racks_see_the_network() {
        let told = told();
        let one = pair(&told, &wanted(None));
        assert_eq!((one.ready, one.on, one.primary.as_deref(), one.secondary), (true, true, Some("rack-1"), None));
        assert!(!pair(&told, &wanted(Some("rack-2"))).ready);
        assert!(!pair(&told, &wanted(Some("rack-3"))).ready);
        let elsewhere = Dhcp { subnet: "10.78.0.0/24".into(), ..wanted(None) };
        assert!(!pair(&told, &elsewhere).ready);
    }

    #[test]
    fn a_range_is_made_only_where_none_covers_it() {
        let told = told();
        assert!(has_range(&told.ranges, &wanted(None)));
        assert!(!has_range(&told.ranges, &Dhcp { last: Ipv4Addr::new(10, 77, 0, 201), ..wanted(None) }));
        assert!(!has_range(&json!({}), &wanted(None)));
    }

    #[test]
    fn what_is_no_list_is_nobody() {
        let nothing = Told::default();
        assert_eq!(pair(&nothing, &wanted(Some("rack-2"))).primary, None);
        assert!(vlan_of(&json!([{ "cidr": "10.77.0.0/24", "vlan": 5 }]), "10.77.0.0/24").is_none());
    }
}
