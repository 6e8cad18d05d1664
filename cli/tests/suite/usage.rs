//! Help, usage errors, exit codes.

use crate::program::{assent, assent_with};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["init"],
    &["genesis"],
    &["keys"],
    &["keys", "issue"],
    &["keys", "revoke"],
    &["keys", "show"],
    &["keys", "generate"],
    &["keys", "rotate"],
    &["governance"],
    &["governance", "list"],
    &["governance", "propose"],
    &["governance", "propose", "add-organization"],
    &["governance", "propose", "remove-organization"],
    &["governance", "propose", "add-validator"],
    &["governance", "propose", "remove-validator"],
    &["governance", "propose", "replace-key"],
    &["governance", "approve"],
    &["governance", "suspend"],
    &["governance", "handover"],
    &["status"],
    &["check"],
    &["cohort"],
    &["accesses"],
    &["request"],
    &["receipt"],
    &["receipt", "slot"],
    &["receipt", "access"],
    &["receipt", "decision"],
    &["verify"],
    &["wallet"],
    &["wallet", "create"],
    &["wallet", "show"],
    &["wallet", "add"],
    &["withdraw"],
    &["grant"],
    &["cancel-replacement"],
    &["history"],
    &["patient"],
    &["patient", "pack"],
    &["notices"],
    &["subject"],
    &["subject", "create"],
    &["replace-key"],
    &["records"],
    &["records", "load"],
    &["consent"],
    &["consent", "import"],
    &["consent", "record"],
    &["consent", "preview"],
    &["consent", "revoke"],
    &["consent", "mark-error"],
    &["consent", "get"],
    &["consent", "list"],
    &["consent", "revisions"],
    &["consent", "export"],
    &["consent", "lint"],
    &["consent", "evaluate"],
    &["ask"],
    &["ask", "status"],
    &["outreach"],
    &["asks"],
    &["asks", "list"],
    &["asks", "answer"],
    &["contact-preferences"],
    &["watch-consents"],
    &["policy"],
    &["policy", "set"],
    &["explain"],
    &["proof"],
    &["proof", "inclusion"],
    &["proof", "consistency"],
    &["proof", "state"],
    &["proof", "signature"],
    &["policy", "get"],
    &["reviews"],
    &["reviews", "list"],
    &["reviews", "close"],
    &["checkpoint"],
    &["audit"],
    &["audit", "export"],
    &["audit", "verify"],
    &["audit", "openings"],
    &["audit", "decisions"],
    &["audit", "evidence"],
    &["audit", "compare"],
    &["audit", "watch"],
];

#[test]
fn help_fits_80_columns_and_names_every_command() {
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let run = assent(&[command, [flag].as_slice()].concat()).exits(0);
            for line in run.out.lines() {
                assert!(line.chars().count() <= 80, "assent {} {flag}: {line:?}", command.join(" "));
            }
        }
        if let [parents @ .., name] = command {
            let run = assent(&[parents, ["--help"].as_slice()].concat()).exits(0);
            assert!(run.out.lines().any(|line| line.trim_start().starts_with(name)), "{name}: {}", run.out);
        }
    }
}

/// Two parts of a command that each bring a flag of one name: which of them gets the value?
#[test]
fn no_command_has_a_flag_twice() {
    for command in COMMANDS {
        let help = assent(&[command, ["--help"].as_slice()].concat()).exits(0).out;
        let options = help.lines().skip_while(|line| *line != "Options:");
        let defined = options.filter_map(|line| {
            let line = line.trim_start().trim_start_matches("-h, ");
            line.strip_prefix("--")?.split([' ', '=']).next()
        });
        let mut flags: Vec<&str> = defined.collect();
        let all = flags.len();
        flags.sort_unstable();
        flags.dedup();
        assert_eq!(flags.len(), all, "assent {}: {flags:?}", command.join(" "));
    }
}

#[test]
fn every_command_is_in_the_list_above() {
    for command in COMMANDS {
        let run = assent(&[command, ["--help"].as_slice()].concat()).exits(0);
        let lines = run
            .out
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            // Deeper in: what a command is for, where that stands on a line of its own.
            .filter(|line| !line.starts_with("   "));
        for name in lines.filter_map(|line| line.split_whitespace().next()) {
            let full = [command, [name].as_slice()].concat();
            assert!(COMMANDS.contains(&full.as_slice()), "{full:?} is not tested");
        }
    }
}

#[test]
fn unknown_flags_and_commands_are_usage_errors_everywhere() {
    for command in COMMANDS {
        assent(&[command, ["--no-such-flag"].as_slice()].concat()).exits(2);
    }
    assent(&["no-such-command"]).exits(2);
    assent::<&str>(&[]).exits(2);
    assent(&["status", "--output", "xml"]).exits(2);
}

#[test]
fn what_a_node_command_lacks_is_said() {
    let run = assent(&["status"]).exits(2);
    assert!(run.err.contains("--cert"), "{run:?}");
    let json = assent(&["status", "--output", "json"]).exits(2).json();
    assert_eq!((&json["ok"], &json["error"]["exit"]), (&false.into(), &2.into()));
    assert_eq!(json["error"]["reason"], "NO_CLIENT_CERTIFICATE");

    let query = ["--custodian", "cedar", "--birth-date", "2000-02-29", "--purpose", "TREAT"];
    for (identifier, exit) in [("no bar", 2), ("|v", 2), ("s|", 2)] {
        assent(&[["check", "--identifier", identifier].as_slice(), &query].concat()).exits(exit);
    }
    let run =
        assent(&[["request", "--identifier", "s|v", "--out", "/tmp/x"].as_slice(), &query].concat()).exits(2);
    assert!(run.err.contains("NO_ANCHOR"), "{run:?}");
    for date in ["2000-02-30", "20000229", "2000-2-9", ""] {
        let arguments =
            ["check", "--identifier", "s|v", "--custodian", "c", "--birth-date", date, "--purpose", "TREAT"];
        assent(&arguments).exits(2);
    }
}

#[test]
fn half_a_patient_and_half_an_answer_are_usage_errors() {
    let patient = ["--custodian", "cedar", "--identifier", "s|v", "--birth-date", "2000-02-29"];
    for (arguments, wanted) in [
        (&["ask", "--until", "2030-01-01T00:00:00Z", "--reason", "x"][..], "--purpose"),
        (&["ask", "--purpose", "TREAT", "--reason", "x", "--until", "tomorrow"], "MALFORMED_TIME"),
        (&["asks", "answer", "--ask", "00"], "--grant"),
        (&["asks", "answer", "--ask", "00", "--grant", "--decline"], "--decline"),
        (&["asks", "answer", "--ask", "00", "--grant"], "MALFORMED_HEX"),
        (&["outreach", "--actor", "x", "--channel", "sms", "--kind", "visit"], "visit"),
    ] {
        let run = assent(&[arguments, patient.as_slice()].concat()).exits(2);
        assert!(run.err.contains(wanted), "{run:?}");
    }
    let run = assent(&["watch-consents", "--custodian", "cedar"]).exits(2);
    assert!(run.err.contains("--identifier"), "{run:?}");
    assert!(assent(&["watch-consents"]).exits(2).err.contains("NO_CLIENT_CERTIFICATE"));
    assert!(assent(&["ask", "status", "--ask", "0"]).exits(2).err.contains("MALFORMED_HEX"));
}

#[test]
fn piped_output_has_no_color() {
    for environment in [&[][..], &[("NO_COLOR", "1")], &[("CLICOLOR_FORCE", "0")]] {
        let run = assent_with(environment, &["status"]);
        assert!(run.err.starts_with("error: ") && !run.err.contains('\x1b'), "{run:?}");
        assert!(run.err.contains("\nhelp: "), "{run:?}");
    }
}
