//! A changed bit counts as found only where it is.

use assent_testnet::demo::tamper::judge::{found, IDS};
use assent_testnet::demo::tamper::report;
use assent_testnet::demo::tamper::seen::{Flip, ObjectSeen, Place, TamperSeen};

fn object(id: &'static str, flips: u64, exit: i32, place: impl Fn(u64) -> (Place, Place)) -> ObjectSeen {
    let flip = |n: u64| {
        let (place, named) = place(n);
        Flip { file: format!("{id}.file"), byte: 100 * n, bit: (n % 8) as u8, place, exit: Some(exit), named }
    };
    ObjectSeen { id, finder: "assent", whole_exit: 0, flips: (0..flips).map(flip).collect(), healed_exit: 0 }
}

fn bytes(first: u64, end: u64) -> Place {
    Place::Bytes { file: "000031.sst".into(), first, end }
}

fn replica() -> ObjectSeen {
    object("replica", 2, 9, |n| (bytes(100 * n, 100 * n + 1), bytes(0, 4096)))
}

fn export() -> ObjectSeen {
    object("export", 6, 3, |n| (Place::Height(n), Place::Height(n)))
}

fn pack() -> ObjectSeen {
    let said = || Place::Field("commitment to all consents does not match".into());
    object("pack", 6, 3, |n| (Place::Field(format!("consents[{n}].body")), said()))
}

#[test]
fn each_altered_observation_fails() {
    type Alteration = (&'static str, fn() -> ObjectSeen, fn(&mut ObjectSeen));
    let all: [Alteration; 17] = [
        ("the node goes on", replica, |o| o.flips[1].exit = None),
        ("the node ended otherwise", replica, |o| o.flips[0].exit = Some(7)),
        ("another file is named", replica, |o| {
            o.flips[0].named = Place::Bytes { file: "000032.sst".into(), first: 0, end: 4096 };
        }),
        ("bytes before it are named", replica, |o| o.flips[1].named = bytes(0, 100)),
        ("bytes behind it are named", replica, |o| o.flips[1].named = bytes(101, 4096)),
        ("no file is named", replica, |o| o.flips[0].named = Place::Unnamed),
        ("too few bits", replica, |o| drop(o.flips.pop())),
        ("the node was damaged before", replica, |o| o.whole_exit = 3),
        ("the node stays damaged", replica, |o| o.healed_exit = 3),
        ("an export that holds", export, |o| o.flips[5].exit = Some(0)),
        ("another height", export, |o| o.flips[3].named = Place::Height(2)),
        ("no height", export, |o| o.flips[3].named = Place::Unnamed),
        ("one bit twice", export, |o| o.flips[1] = o.flips[0].clone()),
        ("too few bits of an export", export, |o| drop(o.flips.pop())),
        ("a pack that holds", pack, |o| o.flips[0].exit = Some(0)),
        ("nothing is said", pack, |o| o.flips[0].named = Place::Field(" ".into())),
        ("an object that nobody knows", pack, |o| o.id = "wallet"),
    ];
    for (what, good, alter) in all {
        let mut seen = good();
        let holds = found(&seen);
        assert!(holds.ok && holds.checked > 6, "{what}: {:?}", holds.faults);
        alter(&mut seen);
        let fails = found(&seen);
        assert!(!fails.ok && !fails.faults.is_empty(), "{what} still holds");
    }
}

#[test]
fn both_reports_have_every_bit() {
    let receipt = ObjectSeen { id: "receipt", ..pack() };
    let mut seen = TamperSeen { seed: 7, objects: vec![replica(), export(), receipt, pack()] };
    let claims = |seen: &TamperSeen| seen.objects.iter().map(found).collect::<Vec<_>>();
    let table = report::table(&seen, &claims(&seen));
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("seed 7") && table.contains("4 of 4 claims hold"), "{table}");
    assert_eq!(table.matches("found ").count(), 20 + 4, "{table}");
    let json = |seen: &TamperSeen| -> serde_json::Value {
        serde_json::from_str(&report::json(seen, &claims(seen))).unwrap()
    };
    let good = json(&seen);
    assert_eq!((&good["ok"], &good["seed"]), (&true.into(), &7.into()));
    assert_eq!(good["flips"].as_array().unwrap().len(), 20);
    let ids: Vec<_> = good["claims"].as_array().unwrap().iter().map(|claim| claim["id"].clone()).collect();
    assert_eq!(ids, IDS);
    assert_eq!(good["flips"][2]["place"]["height"], 0);
    seen.objects[1].flips[0].exit = Some(0);
    let bad = json(&seen);
    assert_eq!((&bad["ok"], &bad["flips"][2]["found"]), (&false.into(), &false.into()));
    assert!(report::table(&seen, &claims(&seen)).contains("MISSED"));
}
