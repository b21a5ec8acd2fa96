package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifySystemd notifies systemd that this process does its work, and that it stops once ctx is done. Until
// the process ends it also reports that it is alive, as often as the unit's WatchdogSec asks for, while alive
// returns no error. Without systemd, or in a unit that does not ask, it does nothing. See sd_notify(3).
func notifySystemd(ctx context.Context, logger *slog.Logger, alive func(context.Context) error) {
	notify := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			logger.Warn("failed to notify systemd", "state", state, "error", err)
		}
	}
	notify(daemon.SdNotifyReady)
	context.AfterFunc(ctx, func() { notify(daemon.SdNotifyStopping) })

	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		logger.Warn("failed to read systemd's watchdog", "error", err)
	}
	if limit <= 0 {
		return
	}
	report := func() {
		// The check must not use up the time of the next one.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit/4)
		defer cancel()
		if err := alive(ctx); err != nil {
			logger.Error("this process does not answer itself; systemd restarts it unless it does soon",
				"limit", limit, "error", err)
			return
		}
		notify(daemon.SdNotifyWatchdog)
	}
	go func() {
		for ; ; time.Sleep(limit / 4) {
			report()
		}
	}()
}
