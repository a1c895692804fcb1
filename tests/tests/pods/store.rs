//! The image store: digests, list, rm.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::fixture::{Fixture, probe_image, with};

use crate::images::path_of;

tests::cases!("store":
    changed_layer_is_refused,
    changed_config_is_refused,
    not_an_image_is_refused,
    missing_file_is_refused,
    list_and_remove,
    same_image_twice_is_one,
    run_by_name,
);

/// Changes a byte in the largest or smallest blob of a layout.
fn damage(layout: &Path, largest: bool) -> Result<String> {
    let mut blobs: Vec<_> = fs::read_dir(layout.join("blobs/sha256"))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    blobs.sort_by_key(|path| {
        fs::metadata(path)
            .map(|meta| meta.len())
            .unwrap_or_default()
    });
    let blob = if largest { blobs.last() } else { blobs.first() }.context("no blob")?;
    let mut content = fs::read(blob)?;
    let last = content.len() - 2;
    content[last] ^= 1;
    fs::write(blob, content)?;
    Ok(blob
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned())
}

fn changed_blob_is_refused(largest: bool) -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "layout");
        probe_image("a").oci(Path::new(&path), "latest")?;
        let digest = damage(Path::new(&path), largest)?;
        fixture
            .stage0(["image", "import", &path])?
            .expect_refusal(&[&digest[..12], "digest"])?;
        let list: Value =
            serde_json::from_str(&fixture.text(["image", "list", "--format", "json"])?)?;
        assert_eq!(list, json!([]), "something of it is in the store");
        Ok(())
    })
}

fn changed_layer_is_refused() -> Result<()> {
    changed_blob_is_refused(true)
}

fn changed_config_is_refused() -> Result<()> {
    changed_blob_is_refused(false)
}

fn not_an_image_is_refused() -> Result<()> {
    with(|fixture| {
        let path = path_of(fixture, "text");
        for content in ["", "not an image at all", "\u{1f}\u{8b}broken gzip"] {
            fs::write(&path, content)?;
            fixture
                .stage0(["image", "import", &path])?
                .expect_refusal(&["text"])?;
        }
        Ok(())
    })
}

fn missing_file_is_refused() -> Result<()> {
    with(|fixture| {
        for kind in ["", "aci:", "oci:", "oci-archive:", "docker-archive:"] {
            let source = format!("{kind}{}", path_of(fixture, "nothing"));
            fixture
                .stage0(["image", "import", &source])?
                .expect_refusal(&["nothing", "No such file or directory"])?;
        }
        Ok(())
    })
}

fn list_and_remove() -> Result<()> {
    with(|fixture| {
        let one = fixture.import(&probe_image("one"))?;
        let two = fixture.import(&probe_image("two"))?;
        let list = fixture.text(["image", "list"])?;
        ensure!(
            list.contains("example.com/one") && list.contains("example.com/two"),
            "{list}"
        );
        let listed = |fixture: &Fixture| -> Result<Vec<Value>> {
            let list: Value =
                serde_json::from_str(&fixture.text(["image", "list", "--format", "json"])?)?;
            Ok(list
                .as_array()
                .context("a list")?
                .iter()
                .map(|image| image["name"].clone())
                .collect())
        };
        assert_eq!(listed(fixture)?.len(), 2);
        let manifest: Value =
            serde_json::from_str(&fixture.text(["image", "cat-manifest", &one])?)?;
        assert_eq!(manifest["name"], "example.com/one");
        fixture.stage0(["image", "rm", &one])?.expect(0)?;
        assert_eq!(listed(fixture)?, [json!("example.com/two")]);
        fixture.stage0(["image", "rm", &one])?.expect(254)?;
        fixture
            .stage0(["image", "cat-manifest", &one])?
            .expect(254)?;
        fixture.stage0(["image", "rm", &two])?.expect(0)?;
        Ok(())
    })
}

fn same_image_twice_is_one() -> Result<()> {
    with(|fixture| {
        let image = probe_image("a");
        assert_eq!(fixture.import(&image)?, fixture.import(&image)?);
        let list: Value =
            serde_json::from_str(&fixture.text(["image", "list", "--format", "json"])?)?;
        assert_eq!(list.as_array().map(Vec::len), Some(1));
        Ok(())
    })
}

fn run_by_name() -> Result<()> {
    with(|fixture| {
        fixture.import(&probe_image("by-name"))?;
        fixture
            .stage0(["run", "example.com/by-name", "--", "exit", "6"])?
            .expect(6)?;
        fixture
            .stage0(["run", "example.com/unknown"])?
            .expect_refusal(&["example.com/unknown"])?;
        Ok(())
    })
}
