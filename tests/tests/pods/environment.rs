//! The app's environment, and what else a process inherits.

use anyhow::{Context, Result};
use serde_json::json;
use tests::fixture::{App, with};

tests::cases!("environment": ; both ways:
    values_arrive_verbatim,
    names_may_have_dots_and_dashes,
    has_what_the_specification_asks,
    options_win_over_the_image,
    nothing_of_the_callers_gets_in,
    descriptors_and_signals_are_clean,
    working_directory_is_the_root_by_default,
    working_directory_is_the_images_or_the_options,
);

const NONE: [&str; 0] = [];

fn values_arrive_verbatim() -> Result<()> {
    with(|fixture| {
        let long = "long \"quoted\" $HOME %n ".repeat(4000);
        let values = [
            ("EMPTY", ""),
            ("SPACES", "  a  b  "),
            ("NEWLINES", "one\ntwo\n\nfour\n"),
            ("CARRIAGE", "a\r\nb"),
            ("QUOTES", "\"double\" 'single' `back`"),
            ("BACKSLASHES", "\\ \\\\ \\n \\x41 end\\"),
            ("DOLLARS", "$PATH ${PATH} $$ $(id)"),
            ("PERCENTS", "%n %% %"),
            ("HASHES", "#no comment; #"),
            ("EQUALS", "A=B=C"),
            ("UNICODE", "grüße 世界 🦀"),
            ("CONTROL", "\u{1}\u{1b}[31m\u{7f}"),
            ("LONG", &long),
        ];
        let mut app = App::seeing("a", NONE);
        for (name, value) in values {
            app = app.option(format!("--environment={name}={value}"));
        }
        let seen = fixture.see(app)?;
        for (name, value) in values {
            assert_eq!(seen.env(name), Some(value), "{name}");
        }
        Ok(())
    })
}

fn names_may_have_dots_and_dashes() -> Result<()> {
    with(|fixture| {
        let environment = json!([
            { "name": "with.dot", "value": "1" },
            { "name": "with-dash", "value": "2" },
            { "name": "lower_case", "value": "3" },
        ]);
        let seen = fixture
            .see(App::seeing("a", NONE).change(|image| image.app("environment", environment)))?;
        for (name, value) in [("with.dot", "1"), ("with-dash", "2"), ("lower_case", "3")] {
            assert_eq!(seen.env(name), Some(value), "{name}");
        }
        Ok(())
    })
}

fn has_what_the_specification_asks() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing("some-app", NONE))?;
        assert_eq!(
            seen.env("PATH"),
            Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        );
        assert_eq!(seen.env("AC_APP_NAME"), Some("some-app"));
        seen.env("container")
            .context("no `container` in the environment")?;
        Ok(())
    })
}

fn options_win_over_the_image() -> Result<()> {
    with(|fixture| {
        let environment = json!([
            { "name": "IMAGE", "value": "image" },
            { "name": "BOTH", "value": "image" },
        ]);
        let app = App::seeing("a", NONE)
            .change(|image| image.app("environment", environment))
            .option("--environment=BOTH=app");
        fixture
            .pod([app])
            .option("--set-env=POD=pod")
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        assert_eq!(seen.env("IMAGE"), Some("image"));
        assert_eq!(seen.env("BOTH"), Some("app"));
        assert_eq!(seen.env("POD"), Some("pod"));
        assert_eq!(
            seen.env
                .iter()
                .filter(|line| line.starts_with("BOTH="))
                .count(),
            1
        );
        Ok(())
    })
}

fn nothing_of_the_callers_gets_in() -> Result<()> {
    with(|fixture| {
        let mut command = fixture.pod([App::seeing("a", NONE)]).command()?;
        command
            .env("LEAK", "1")
            .env("SYSTEMD_LOG_LEVEL", "debug")
            .env("LD_PRELOAD", "")
            .env("HOME", "/home/caller");
        tests::process::run(command)?.expect(0)?;
        let seen = fixture.seen("a")?;
        for line in &seen.env {
            let name = line.split('=').next().unwrap_or_default();
            assert!(
                !name.starts_with("RKT_") && !name.starts_with("LD_"),
                "{line}"
            );
            assert!(!["LEAK", "SYSTEMD_LOG_LEVEL"].contains(&name), "{line}");
            assert_ne!(line, "HOME=/home/caller");
        }
        Ok(())
    })
}

fn descriptors_and_signals_are_clean() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing("a", NONE))?;
        let numbers: Vec<_> = seen.fds.keys().copied().collect();
        assert_eq!(numbers, [0, 1, 2], "{:?}", seen.fds);
        assert_eq!(seen.fds[&0], "/dev/null");
        for set in ["SigBlk", "SigIgn"] {
            let signals = u64::from_str_radix(&seen.status[set], 16)?;
            // 32 and 33 are the C library's own: its posix_spawn ignores them, which nobody can undo by sigaction.
            assert_eq!(signals & !(0b11 << 31), 0, "{set}: {signals:x}");
        }
        assert_eq!(seen.status["Umask"], "0022");
        Ok(())
    })
}

fn working_directory_is_the_root_by_default() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(App::seeing("a", NONE))?;
        assert_eq!(seen.cwd.to_str(), Some("/"));
        Ok(())
    })
}

fn working_directory_is_the_images_or_the_options() -> Result<()> {
    with(|fixture| {
        let image = |image: tests::image::Image| {
            image.app("workingDirectory", json!("/in image")).with([
                tests::image::dir("in image/", 0o755),
                tests::image::dir("by%option/", 0o755),
            ])
        };
        let apps = [
            App::seeing("a", NONE).change(image),
            App::seeing("b", NONE)
                .change(image)
                .option("--working-dir=/by%option"),
        ];
        fixture.pod(apps).run()?.expect(0)?;
        assert_eq!(fixture.seen("a")?.cwd.to_str(), Some("/in image"));
        assert_eq!(fixture.seen("b")?.cwd.to_str(), Some("/by%option"));
        Ok(())
    })
}
