//! When an app is started again: the waits between restarts grow while it does not run well.

use std::time::Duration;

use super::AppStatus;

/// An app that ran for so long ran well: the next restart comes after the first wait again. This and the next are
/// dockerd's, whose users know them.
const WELL: Duration = Duration::from_secs(10);

/// No wait is longer, unless the first one is asked to be.
const LONGEST: Duration = Duration::from_secs(60);

impl AppStatus {
    /// Notes that the app is to be started again, after the wait that is due; `first` is the shortest one.
    pub fn plan_restart(&mut self, first: Duration) {
        let (started, finished) = (self.started_at, self.finished_at);
        let ran = started.zip(finished).map(|(a, b)| b.saturating_sub(a));
        let well = ran.is_some_and(|ran| Duration::from_nanos(ran) >= WELL);
        let before = self.back_off.map(Duration::from_nanos);
        let wait = match before {
            Some(before) if !well => (before * 2).min(LONGEST.max(first)),
            _ => first,
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.back_off = Some(nanos(wait));
        let end = finished.unwrap_or_else(super::now);
        self.restart_at = Some(end.saturating_add(nanos(wait)));
    }

    /// How much of the wait for the restart is left. It is never longer than was planned, whatever happens to the clock.
    pub fn wait_left(&self) -> Duration {
        let left = self.restart_at.map(|at| at.saturating_sub(super::now()));
        Duration::from_nanos(left.unwrap_or(0).min(self.back_off.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The wait in milliseconds after a run of so many seconds.
    fn wait(app: &mut AppStatus, first: u64, ran: u64) -> u64 {
        app.started_at = Some(SECOND);
        app.finished_at = Some(SECOND + ran * SECOND);
        app.plan_restart(Duration::from_millis(first));
        let wait = app.back_off.unwrap();
        assert_eq!(app.restart_at, Some(SECOND + ran * SECOND + wait));
        wait / 1_000_000
    }

    #[test]
    fn waits_grow_to_a_bound_until_the_app_runs_well() {
        let mut app = AppStatus::default();
        let waits: Vec<_> = (0..12).map(|_| wait(&mut app, 100, 1)).collect();
        assert_eq!(waits[..5], [100, 200, 400, 800, 1600]);
        assert_eq!(waits[9..], [51_200, 60_000, 60_000]);
        assert_eq!(wait(&mut app, 100, 9), 60_000);
        assert_eq!(wait(&mut app, 100, 10), 100);
        assert_eq!(wait(&mut app, 100, 0), 200);
        let mut slow = AppStatus::default();
        assert_eq!(
            [wait(&mut slow, 90_000, 1), wait(&mut slow, 90_000, 1)],
            [90_000; 2]
        );
    }

    #[test]
    fn no_wait_is_longer_than_planned() {
        let mut app = AppStatus::default();
        assert_eq!(app.wait_left(), Duration::ZERO);
        let hour = Duration::from_secs(3600);
        app.plan_restart(hour);
        assert!(app.wait_left() > hour / 2);
        app.restart_at = Some(u64::MAX);
        assert_eq!(app.wait_left(), hour);
        app.restart_at = Some(1);
        assert_eq!(app.wait_left(), Duration::ZERO);
    }
}
