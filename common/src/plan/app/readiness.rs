//! How long an app's unit is starting: until its program runs, or until the app says that it is ready.

use super::unit::handler;
use crate::load::PodApp;
use crate::plan::Directive;
use crate::policy::Restart;
use crate::time_span;

pub(super) fn directives(app: &PodApp) -> Vec<Directive> {
    if app.notifies {
        let limit = app.policy.start_timeout.map(time_span::format);
        return vec![
            ("Type", "notify".to_owned()),
            // A child may say it for the app: what an image starts is often a wrapper.
            ("NotifyAccess", "all".to_owned()),
            // For each command of the start; those before the app's own lift it, as only the app is to be limited.
            (
                "TimeoutStartSec",
                limit.unwrap_or_else(|| "infinity".into()),
            ),
        ];
    }
    let mut directives = vec![
        ("Type", "exec".to_owned()),
        // Not for the app, which is shown no socket: the reaper asks for the time that it takes.
        ("NotifyAccess", "exec".to_owned()),
    ];
    // A slow handler must not be killed for it (rkt#1547), nor the wait; the program itself starts at once.
    if handler(app, "pre-start").is_some() || app.policy.restart != Restart::No {
        directives.push(("TimeoutStartSec", "infinity".to_owned()));
    }
    directives
}
