//! User, group and supplementary groups.

use anyhow::Result;
use serde_json::json;
use tests::fixture::{App, with};
use tests::image::{file, symlink};
use tests::probe::Seen;

tests::cases!("identity": unknown_group_is_explained; both ways:
    is_the_images,
    by_name,
    by_number,
    by_a_files_owner,
    through_a_symlinked_passwd,
    supplementary_groups,
    many_identities_in_one_pod,
    unknown_user_is_explained
    ; with users:
    is_the_images,
    by_name,
    by_number,
    by_a_files_owner,
    through_a_symlinked_passwd,
    many_identities_in_one_pod,
);

const NONE: [&str; 0] = [];

fn assert_ids(seen: &Seen, uid: u32, gid: u32) {
    assert_eq!(seen.uids, [uid; 4], "uids");
    assert_eq!(seen.gids, [gid; 4], "gids");
}

/// Supplementary groups besides the primary one, which may or may not be listed.
fn others(seen: &Seen) -> Vec<u32> {
    seen.groups
        .iter()
        .copied()
        .filter(|group| *group != seen.gids[0])
        .collect()
}

fn is_the_images() -> Result<()> {
    with(|fixture| {
        let alice = App::seeing("b", NONE).change(|image| {
            image
                .app("user", json!("alice"))
                .app("group", json!("staff"))
        });
        fixture
            .pod([App::seeing("a", NONE), alice])
            .run()?
            .expect(0)?;
        let root = fixture.seen("a")?;
        assert_ids(&root, 0, 0);
        assert_eq!(others(&root), [0; 0]);
        assert_ids(&fixture.seen("b")?, 1234, 3456);
        Ok(())
    })
}

fn by_name() -> Result<()> {
    with(|fixture| {
        let seen = fixture.see(
            App::seeing("a", NONE)
                .option("--user=alice")
                .option("--group=wheel"),
        )?;
        assert_ids(&seen, 1234, 4567);
        assert_eq!(
            seen.capabilities.effective, 0,
            "an ordinary user has no capabilities in effect"
        );
        Ok(())
    })
}

fn by_number() -> Result<()> {
    with(|fixture| {
        // In no passwd file of image, pod or host.
        let seen = fixture.see(
            App::seeing("a", NONE)
                .option("--user=54321")
                .option("--group=65432"),
        )?;
        assert_ids(&seen, 54321, 65432);
        Ok(())
    })
}

fn by_a_files_owner() -> Result<()> {
    with(|fixture| {
        let entries = [
            file("etc/owned", 0o600, "").owned(777, 888),
            symlink("etc/link", "/etc/owned"),
        ];
        let app = App::seeing("a", NONE).change(|image| image.with(entries));
        let seen = fixture.see(app.option("--user=/etc/owned").option("--group=/etc/link"))?;
        assert_ids(&seen, 777, 888);
        Ok(())
    })
}

fn through_a_symlinked_passwd() -> Result<()> {
    with(|fixture| {
        // Leaves the image's root in every other reading than one inside that root.
        let app = App::seeing("a", NONE).change(|image| {
            image.without("etc/passwd").with([
                symlink("etc/passwd", "/../../../../../../../data/users"),
                tests::image::dir("data/", 0o755),
                file(
                    "data/users",
                    0o644,
                    "root:x:0:0::/:/\nbob:x:4321:5432::/:/\n",
                ),
            ])
        });
        let seen = fixture.see(app.option("--user=bob").option("--group=0"))?;
        assert_ids(&seen, 4321, 0);
        Ok(())
    })
}

fn supplementary_groups() -> Result<()> {
    with(|fixture| {
        let app = App::seeing("a", NONE)
            .option("--user=54321")
            .option("--supplementary-gids=11,22,70000");
        let image =
            App::seeing("b", NONE).change(|image| image.app("supplementaryGids", json!([5, 6])));
        fixture.pod([app, image]).run()?.expect(0)?;
        assert_eq!(others(&fixture.seen("a")?), [11, 22, 70000]);
        assert_eq!(others(&fixture.seen("b")?), [5, 6]);
        Ok(())
    })
}

fn many_identities_in_one_pod() -> Result<()> {
    with(|fixture| {
        // The same name is another user in each image.
        let named = |name: &str, uid: u32| {
            App::seeing(name, NONE)
                .change(|image| {
                    image.without("etc/passwd").with([file(
                        "etc/passwd",
                        0o644,
                        format!("same:x:{uid}:{uid}::/:/\n"),
                    )])
                })
                .option("--user=same")
                .option("--group=0")
        };
        fixture
            .pod([named("a", 2001), named("b", 2002)])
            .run()?
            .expect(0)?;
        assert_ids(&fixture.seen("a")?, 2001, 0);
        assert_ids(&fixture.seen("b")?, 2002, 0);
        Ok(())
    })
}

fn unknown_user_is_explained() -> Result<()> {
    with(|fixture| {
        let finished = fixture
            .pod([App::seeing("a", NONE).option("--user=nosuchuser")])
            .run()?;
        assert_ne!(finished.code(), 0);
        assert!(
            format!("{}{}", finished.stdout, finished.stderr).contains("nosuchuser"),
            "{finished}"
        );
        assert!(fixture.seen("a").is_err(), "the app ran all the same");
        Ok(())
    })
}

fn unknown_group_is_explained() -> Result<()> {
    with(|fixture| {
        let finished = fixture
            .pod([App::seeing("a", NONE).option("--group=nosuchgroup")])
            .run()?;
        assert_ne!(finished.code(), 0);
        assert!(
            format!("{}{}", finished.stdout, finished.stderr).contains("nosuchgroup"),
            "{finished}"
        );
        assert!(fixture.seen("a").is_err(), "the app ran all the same");
        Ok(())
    })
}
