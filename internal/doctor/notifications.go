package doctor

import (
	"context"

	"hutong/internal/notify"
	"hutong/internal/party"
)

// notificationChecks returns the checks of who gets notifications. They connect, and send no message.
func notificationChecks(cfg *party.Config) (checks []check) {
	for _, r := range cfg.Notifications.Receivers {
		checks = append(checks, check{"receiver " + r.Name, func(ctx context.Context) Check {
			return checkReceiver(ctx, cfg, r.Name)
		}})
	}
	return checks
}

func checkReceiver(ctx context.Context, cfg *party.Config, name string) Check {
	n, err := cfg.Notifier()
	if err != nil {
		return failed("correct the field, or the file that it names", "%v", err)
	}
	var receiver *notify.Receiver
	if receiver, _ = n.Receiver(name); receiver == nil {
		return failed("correct notifications.receivers", "there is no receiver %s", name)
	}
	fix := "correct webhook.url and webhook.ca_file of the receiver, or proxy.no_proxy; its messages wait " +
		"for up to a day"
	if receiver.Webhook == nil {
		fix = "correct notifications.smtp, or proxy.no_proxy; messages wait for up to a day"
	}
	if err := n.Check(ctx, receiver, cfg.Proxy.Rule().Dial); err != nil {
		return warning(fix, "%v", err)
	}
	return ok("reachable; hutong notification test %s sends a test message", name)
}
