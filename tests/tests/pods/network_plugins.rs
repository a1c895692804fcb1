//! How plugins are called, with ones of the tests' own, and what they are given.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::fixture::{App, with};
use tests::process::BOUND;

use crate::recorder::{calls, machine, network, plugins, run, verbs, without_answer};

tests::cases!("network_plugins":
    are_called_by_the_protocol,
    of_old_versions_get_no_answers_of_others,
    get_the_arguments_of_user_and_pod,
    collect_what_no_pod_uses,
);

fn are_called_by_the_protocol() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        let list = plugins("list", "1.0.0", &["recorder", "second"]);
        let config = network(fixture, "10.conflist", &list)?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        let pod = pod.option("--debug").option("--net=list").option(&config);
        let finished = pod.run()?.expect(0)?;
        ensure!(
            finished.stderr.contains("network list eth0 10.5.0.2/24"),
            "{finished}"
        );
        let uuid = fixture.only_pod()?;
        // What was added with one configuration is deleted with it, whatever the file says by then.
        let other = plugins("list", "0.4.0", &["failing"]);
        network(fixture, "10.conflist", &other)?;
        fixture.text(["rm", &uuid])?;
        let calls = calls(machine)?;
        let expected = [
            "ADD recorder eth0",
            "ADD second eth0",
            "CHECK recorder eth0",
            "CHECK second eth0",
            "DEL second eth0",
            "DEL recorder eth0",
        ];
        assert_eq!(verbs(&calls), expected);
        let configs: Vec<_> = calls.iter().map(|(_, config)| config).collect();
        ensure!(configs[0].get("prevResult").is_none(), "{configs:?}");
        let answer = json!({ "ips": [{ "address": "10.5.0.2/24" }] });
        for (number, config) in configs.iter().enumerate() {
            assert_eq!(
                (&config["name"], &config["cniVersion"]),
                (&json!("list"), &json!("1.0.0"))
            );
            let first = [0, 2, 5].contains(&number);
            let added = configs[if first { 0 } else { 1 }];
            assert_eq!(without_answer(config), without_answer(added), "{number}");
            ensure!(
                number == 0 || config["prevResult"] == answer,
                "{number}: {config}"
            );
        }
        Ok(())
    })
}

fn of_old_versions_get_no_answers_of_others() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        machine.write(
            "/run/answer",
            0o644,
            r#"{"ip4":{"ip":"10.5.0.2/24","gateway":"10.5.0.1"}}"#,
        )?;
        // Without a version: 0.1.0.
        let single = json!({ "name": "old", "type": "recorder" });
        let config = network(fixture, "10.conf", &single)?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        pod.option("--net=old").option(&config).run()?.expect(0)?;
        let uuid = fixture.only_pod()?;
        let status = fixture.text(["status", &uuid])?;
        ensure!(
            status.contains("networks=old:ip4=10.5.0.2 default-restricted:ip4="),
            "{status}"
        );
        fixture.text(["rm", &uuid])?;
        let calls = calls(machine)?;
        assert_eq!(verbs(&calls), ["ADD recorder eth0", "DEL recorder eth0"]);
        for (_, config) in calls {
            assert_eq!(
                config,
                json!({ "name": "old", "type": "recorder", "cniVersion": "0.1.0" })
            );
        }
        Ok(())
    })
}

fn get_the_arguments_of_user_and_pod() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        let config = network(
            fixture,
            "10.conflist",
            &plugins("list", "0.3.1", &["recorder"]),
        )?;
        run(fixture, "--net=list:IP=10.5.0.9;X=y", &config)?;
        let pod = fixture.pod([App::probe("a", ["exit", "0"])]);
        pod.option("--net=list:X=y")
            .option("--pod-annotation=io.kubernetes.pod.name=web-0")
            .option("--pod-annotation=io.kubernetes.pod.namespace=shop")
            .option(&config)
            .run()?
            .expect(0)?;
        let uuid = fixture.only_pod()?;
        fixture.text(["rm", &uuid])?;
        let calls = calls(machine)?;
        let of_pod = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID={uuid};X=y"
        );
        let expected = [
            "ADD recorder eth0 IP=10.5.0.9;X=y".to_owned(),
            "DEL recorder eth0 IP=10.5.0.9;X=y".to_owned(),
            format!("ADD recorder eth0 {of_pod}"),
            format!("DEL recorder eth0 {of_pod}"),
        ];
        assert_eq!(verbs(&calls), expected);
        Ok(())
    })
}

/// Of two pods in the network, one that runs: it is named, and the other is not.
fn collect_what_no_pod_uses() -> Result<()> {
    with(|fixture| {
        let machine = machine(fixture)?;
        let list = plugins("list", "1.1.0", &["recorder", "failing"]);
        // One that does not know the verb, nor says so in its own words.
        let list =
            json!({ "plugins": [list["plugins"][0]], "name": "list", "cniVersion": "1.1.0" });
        let config = network(fixture, "10.conflist", &list)?;
        let steps = "do write /out/up x + until-term".split(' ');
        let options = ["--net=list", config.as_str()];
        let (uuid, running) = fixture
            .pod([App::probe("a", steps)])
            .start_prepared(&options)?;
        tests::wait::for_path(&fixture.out("up"), Some(BOUND))?;
        let pod = fixture.pod([App::probe("b", ["exit", "0"])]);
        pod.option("--net=list").option(&config).run()?.expect(0)?;
        let pods = fixture.pods();
        let other = pods
            .iter()
            .find(|(_, other)| *other != uuid)
            .context("the other")?;
        fixture.text(["rm", &other.1])?;
        let calls = calls(machine)?;
        let last = calls.len() - 1;
        assert_eq!(
            verbs(&calls)[last - 2..],
            ["DEL recorder eth0", "VERSION recorder", "GC recorder"]
        );
        let valid = json!([{ "containerID": uuid, "ifname": "eth0" }]);
        assert_eq!(calls[last].1["cni.dev/valid-attachments"], valid);
        fixture.stage0(["stop", &uuid])?.expect(0)?;
        running.finish()?;
        Ok(())
    })
}
