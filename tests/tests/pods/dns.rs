//! `/etc/resolv.conf` and `/etc/hosts`.

use std::fs;

use anyhow::Result;
use tests::fixture::{App, with};
use tests::image::{file, symlink};
use tests::probe::Outcome;

tests::cases!("dns":
    servers_are_written,
    servers_replace_the_images_file,
    host_shows_the_hosts_file,
    none_leaves_the_image_alone,
    hosts_entries_are_added,
    hosts_of_the_host,
    hosts_fallback_for_images_without_one,
    hosts_of_the_image_is_kept,
    resolv_conf_symlink_stays_inside,
);

const NONE: [&str; 0] = [];

fn servers_are_written() -> Result<()> {
    with(|fixture| {
        let pod = fixture.pod([App::seeing("a", NONE), App::seeing("b", NONE)]);
        pod.option("--dns=192.0.2.1")
            .option("--dns=2001:db8::1")
            .run()?
            .expect(0)?;
        for app in ["a", "b"] {
            let seen = fixture.seen(app)?;
            let servers: Vec<_> = seen
                .text("/etc/resolv.conf")?
                .lines()
                .filter(|line| line.starts_with("nameserver"))
                .map(str::to_owned)
                .collect();
            assert_eq!(servers, ["nameserver 192.0.2.1", "nameserver 2001:db8::1"]);
        }
        Ok(())
    })
}

fn servers_replace_the_images_file() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", NONE).change(|image| {
            image.with([file("etc/resolv.conf", 0o644, "nameserver 198.51.100.1\n")])
        });
        fixture
            .pod([app])
            .option("--dns=192.0.2.1")
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        let text = seen.text("/etc/resolv.conf")?;
        assert!(
            text.contains("192.0.2.1") && !text.contains("198.51.100.1"),
            "{text}"
        );
        Ok(())
    })
}

fn host_shows_the_hosts_file() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::seeing("a", NONE)])
            .option("--dns=host")
            .run()?
            .expect(0)?;
        assert_eq!(
            fixture.seen("a")?.text("/etc/resolv.conf")?,
            fs::read_to_string("/etc/resolv.conf")?
        );
        Ok(())
    })
}

fn none_leaves_the_image_alone() -> Result<()> {
    with(|fixture| {
        let own = App::seeing("b", NONE).change(|image| {
            image.with([file("etc/resolv.conf", 0o644, "nameserver 198.51.100.1\n")])
        });
        fixture
            .pod([App::seeing("a", NONE), own])
            .option("--dns=none")
            .run()?
            .expect(0)?;
        match fixture.seen("a")?.look("read", "/etc/resolv.conf")? {
            Outcome::Text(text) => assert!(!text.contains("nameserver"), "{text}"),
            other => assert_eq!(
                other,
                &Outcome::Error(rustix::io::Errno::NOENT.raw_os_error())
            ),
        }
        assert_eq!(
            fixture.seen("b")?.text("/etc/resolv.conf")?,
            "nameserver 198.51.100.1\n"
        );
        Ok(())
    })
}

/// The names that a hosts file gives an address.
fn names_of<'a>(hosts: &'a str, address: &str) -> Vec<&'a str> {
    let lines = hosts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.first() == Some(&address))
        .flat_map(|words| words.into_iter().skip(1))
        .collect()
}

fn hosts_entries_are_added() -> Result<()> {
    with(|fixture| {
        let pod = fixture.pod([App::seeing("a", NONE)]);
        pod.option("--hosts-entry=192.0.2.7=db,db.example")
            .option("--hosts-entry=2001:db8::7=web")
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        let hosts = seen.text("/etc/hosts")?;
        assert_eq!(names_of(hosts, "192.0.2.7"), ["db", "db.example"]);
        assert_eq!(names_of(hosts, "2001:db8::7"), ["web"]);
        assert!(
            names_of(hosts, "127.0.0.1").contains(&"localhost"),
            "{hosts}"
        );
        Ok(())
    })
}

fn hosts_of_the_host() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::seeing("a", NONE)])
            .option("--hosts-entry=host")
            .run()?
            .expect(0)?;
        assert_eq!(
            fixture.seen("a")?.text("/etc/hosts")?,
            fs::read_to_string("/etc/hosts")?
        );
        Ok(())
    })
}

fn hosts_fallback_for_images_without_one() -> Result<()> {
    with(|fixture| {
        fixture
            .pod([App::seeing("a", NONE)])
            .option("--hostname=some-host")
            .run()?
            .expect(0)?;
        let seen = fixture.seen("a")?;
        let hosts = seen.text("/etc/hosts")?;
        assert!(
            names_of(hosts, "127.0.0.1").contains(&"localhost"),
            "{hosts}"
        );
        assert!(
            hosts.split_whitespace().any(|word| word == "some-host"),
            "{hosts}"
        );
        Ok(())
    })
}

fn hosts_of_the_image_is_kept() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", NONE)
            .change(|image| image.with([file("etc/hosts", 0o644, "192.0.2.9 own\n")]));
        assert_eq!(fixture.see(app)?.text("/etc/hosts")?, "192.0.2.9 own\n");
        Ok(())
    })
}

fn resolv_conf_symlink_stays_inside() -> Result<()> {
    with(|fixture| {
        // As many distributions have it: into /run, where the image has nothing.
        let app = App::seeing("a", NONE).change(|image| {
            image.with([symlink(
                "etc/resolv.conf",
                "../run/systemd/resolve/stub-resolv.conf",
            )])
        });
        fixture
            .pod([app])
            .option("--dns=192.0.2.1")
            .run()?
            .expect(0)?;
        assert!(
            fixture
                .seen("a")?
                .text("/etc/resolv.conf")?
                .contains("192.0.2.1")
        );
        Ok(())
    })
}
