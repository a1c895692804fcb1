//! The command: how the program is found and that its arguments arrive as they are.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::fixture::{App, probe_image, with};
use tests::image::{Entry, dir, file, symlink};

tests::cases!("arguments": ; both ways:
    arrive_verbatim,
    may_be_very_long,
    are_appended_to_the_images_own,
    exec_option_replaces_the_images_command,
    program_is_found_in_the_default_path,
    program_is_found_in_the_apps_own_path,
    path_search_skips_what_is_not_a_program,
    program_may_be_a_symlink_inside_the_image,
    script_is_run_by_its_interpreter,
);

/// Everything that a shell, systemd's unit syntax, its specifiers or its variables could take for their own.
const AWKWARD: &[&str] = &[
    "",
    " ",
    "  two  spaces  ",
    "%",
    "%%",
    "%n %i %H %t",
    "$",
    "$$",
    "$PATH",
    "${PATH}",
    "$0",
    "\"",
    "'",
    "\"quoted\"",
    "'quoted'",
    "it's",
    "\\",
    "\\\\",
    "\\n",
    "\\x41",
    "trailing\\",
    "line\nbreak",
    "\n",
    "tab\there",
    "\r",
    "\u{1}\u{7f}\u{1b}[0m",
    "grüße, 世界 🦀",
    "\u{a0}\u{2028}",
    ";",
    "#comment",
    "@",
    "-",
    "--",
    "--flag=value",
    "+",
    "!",
    ":",
    "|",
    "&",
    "`id`",
    "$(id)",
    "*",
    "~",
    "{a,b}",
    "[Service]",
    "ExecStart=/bin/false",
];

fn arrive_verbatim() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing("a", ["--"].iter().chain(AWKWARD).copied()))?;
        assert_eq!(
            &seen.argv[..5],
            ["/probe", "see", "--out", "/out/a.json", "--"]
        );
        assert_eq!(&seen.argv[5..], AWKWARD);
        Ok(())
    })
}

fn may_be_very_long() -> Result<()> {
    with(|fixture| {
        // The kernel takes 128 KiB in one argument; systemd's unit lines hold 1 MiB in all.
        let long = [
            "é\"\\%$ ".repeat(14_000),
            "x".repeat(100_000),
            " ".repeat(50_000),
        ];
        let many = (0..2000).map(|number| format!("argument {number}"));
        let args: Vec<String> = long.into_iter().chain(many).collect();
        let seen = fixture.see(App::seeing(
            "a",
            ["--".to_owned()].into_iter().chain(args.clone()),
        ))?;
        ensure!(seen.argv[5..] == args, "long arguments are changed");
        Ok(())
    })
}

fn are_appended_to_the_images_own() -> Result<()> {
    with(|fixture| {
        let app = App::probe("a", ["--", "tail"])
            .change(|image| image.app("exec", json!(["/probe", "see", "--out", "/out/a.json"])));
        let seen = fixture.see(app)?;
        assert_eq!(
            seen.argv,
            ["/probe", "see", "--out", "/out/a.json", "--", "tail"]
        );
        Ok(())
    })
}

fn exec_option_replaces_the_images_command() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", [] as [&str; 0])
            .change(|image| image.app("exec", json!(["/not/there", "with", "arguments"])))
            .option("--exec=/probe");
        let seen = fixture.see(app)?;
        assert_eq!(seen.argv, ["/probe", "see", "--out", "/out/a.json"]);
        Ok(())
    })
}

fn program() -> Vec<u8> {
    std::fs::read(tests::harness::probe()).expect("the harness has put it there")
}

/// An app whose command has no slash, in an image with these entries besides.
fn by_name(entries: impl IntoIterator<Item = Entry>) -> App {
    let image = probe_image("a").app("exec", json!(["tool"])).with(entries);
    App::seeing("a", [] as [&str; 0]).image(image)
}

fn program_is_found_in_the_default_path() -> Result<()> {
    with(|fixture| {
        let entries = [
            dir("usr/", 0o755),
            dir("usr/local/", 0o755),
            dir("usr/local/bin/", 0o755),
            file("usr/local/bin/tool", 0o755, program()),
        ];
        let seen = fixture.see(by_name(entries))?;
        assert_eq!(seen.argv[0], "tool");
        Ok(())
    })
}

fn program_is_found_in_the_apps_own_path() -> Result<()> {
    with(|fixture| {
        // Both are there: the app's own PATH has no /bin. Neither is in the pod's or the host's.
        let entries = [
            dir("bin/", 0o755),
            file("bin/tool", 0o755, "#!/not/this/one\n"),
            dir("opt/", 0o755),
            dir("opt/tools/", 0o755),
            file("opt/tools/tool", 0o755, program()),
        ];
        let seen =
            fixture.see(by_name(entries).option("--environment=PATH=/nowhere:/opt/tools"))?;
        assert_eq!(seen.argv[0], "tool");
        assert_eq!(seen.env("PATH"), Some("/nowhere:/opt/tools"));
        Ok(())
    })
}

fn path_search_skips_what_is_not_a_program() -> Result<()> {
    with(|fixture| {
        let entries = [
            dir("one/", 0o755),
            dir("one/tool/", 0o755),
            dir("two/", 0o755),
            file("two/tool", 0o644, "not executable"),
            dir("three/", 0o755),
            file("three/tool", 0o755, program()),
        ];
        fixture.see(by_name(entries).option("--environment=PATH=/one:/two:/three"))?;
        Ok(())
    })
}

fn program_may_be_a_symlink_inside_the_image() -> Result<()> {
    with(|fixture| {
        let entries = [dir("bin/", 0o755), symlink("bin/tool", "/probe")];
        let seen = fixture.see(by_name(entries))?;
        assert_eq!(seen.argv[0], "tool");
        Ok(())
    })
}

fn script_is_run_by_its_interpreter() -> Result<()> {
    with(|fixture| {
        let image = probe_image("a").app("exec", json!(["/script"])).with([file(
            "script",
            0o755,
            "#!/probe see\n",
        )]);
        // `see` gets the script's path and the arguments as words; it must not be asked for more.
        let image = image
            .with([file("print", 0o755, "#!/probe print\n")])
            .app("exec", json!(["/print"]));
        let finished = fixture
            .pod([App::probe("a", [] as [&str; 0]).image(image)])
            .run()?
            .expect(0)?;
        assert_eq!(finished.console("a"), ["/print"]);
        Ok(())
    })
}
