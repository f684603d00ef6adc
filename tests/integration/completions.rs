//! A shell suggests the values of an option, and files only if the option takes a file.

use std::process::Command;

use crate::world::World;

/// What bash suggests for the last of these words; the program's own file is in the folder.
fn offered(world: &World, words: &[&str]) -> Vec<String> {
    let script = world.file("c.bash", world.run(&["completions", "bash"]).stdout);
    let (word, before) = (words[words.len() - 1], words[words.len() - 2]);
    let ask = format!(
        "source {}; COMP_WORDS=({}); COMP_CWORD={}
        $(complete -p customer-import | sed 's/.* -F \\([^ ]*\\).*/\\1/') customer-import '{word}' '{before}' 2>/dev/null
        printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.join(" "),
        words.len() - 1,
    );
    let bash =
        Command::new("bash").args(["--norc", "-c", &ask]).current_dir(world.folder.path()).output().unwrap();
    let lines = String::from_utf8(bash.stdout).unwrap();
    lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_shell_knows_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (0, ""));
        for word in ["import", "export", "config", "max-failures"] {
            assert!(script.stdout.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn bash_offers_options_and_values() {
    let world = World::new();
    for (words, expected) in [
        (&["customer-import", "ex"][..], &["export"][..]),
        (&["customer-import", "import", "--max"], &["--max-attempts", "--max-failures"]),
        (&["customer-import", "import", "--map", "m"], &["mobile_number=", "mobile_country_code="]),
        (&["customer-import", "validate", "--set", "l"], &["last_name="]),
        (&["customer-import", "plan", "--require", "m"], &["mobile_country_code"]),
        (&["customer-import", "import", "--phone-region", "SG"], &["SG"]),
        (&["customer-import", "init", "--encoding", "shift"], &["shift_jis"]),
        (&["customer-import", "import", "--validation", ""], &["documented", "lenient"]),
        (&["customer-import", "import", "--progress", "a"], &["auto", "always"]),
        (&["customer-import", "simulate", "--fault", "reset"], &["reset-before=", "reset-after="]),
        (&["customer-import", "export", ""], &["created", "failed", "all"]),
        (&["customer-import", "config", "val"], &["validate"]),
        (&["customer-import", "completions", "z"], &["zsh"]),
    ] {
        assert_eq!(offered(&world, words), expected, "{words:?}");
    }
}

#[test]
fn bash_offers_files_only_where_a_file_is_meant() {
    let world = World::new();
    world.file("users.csv", "");
    for option in ["--ledger", "--config", "--summary-json", "--ca-file"] {
        assert_eq!(offered(&world, &["customer-import", "import", option, "u"]), ["users.csv"], "{option}");
    }
    for option in ["--rate", "--merchant-id", "--limit", "--timeout", "--base-url", "--ignore"] {
        // An option's value is completed without a change to what was typed.
        assert_eq!(offered(&world, &["customer-import", "import", option, "u"]), ["u"], "{option}");
    }
    // No suggestion for the file of an import: bash suggests files by itself.
    assert_eq!(offered(&world, &["customer-import", "import", "u"]), [""; 0]);
}

#[test]
fn zsh_and_fish_offer_the_same() {
    let world = World::new();
    let zsh = world.run(&["completions", "zsh"]).stdout;
    assert!(!zsh.contains(":_default'") && zsh.contains(":FILE:_files'"), "{zsh}");
    assert!(zsh.contains(":CC:(AC AD AE ") && zsh.contains("(object_reference_id= mobile_number= "), "{zsh}");
    let fish = world.run(&["completions", "fish"]).stdout;
    let with_value = fish.lines().filter(|line| line.contains(" -r"));
    assert!(with_value.clone().count() > 100);
    for line in with_value {
        let is_file = [
            "-l ledger",
            "-file",
            "-l config",
            "-l output",
            "-json",
            "-cert",
            "client-key",
            "-l compare",
            "-textfile",
        ]
        .iter()
        .any(|option| line.contains(option));
        assert!(line.contains(" -F") == is_file, "{line}");
    }
    assert!(fish.contains("using_subcommand export\" -f -a \"created failed all\""), "{fish}");
    assert!(fish.contains("using_subcommand status\" -f\n"), "{fish}");
}
