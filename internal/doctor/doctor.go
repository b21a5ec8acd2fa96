// Package doctor checks a party's configuration and environment, reports problems and suggests fixes. The
// party need not run. The checks change nothing, except that they write probe files and a probe object and
// remove them.
package doctor

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"hutong/internal/party"
)

// State is the result of a check.
type State string

// The party works despite a warning, at least in part.
const (
	OK      State = "ok"
	Warning State = "warning"
	Failed  State = "FAILED"
)

// Check is the result of one check. It contains no secret of the configuration.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what to do; empty if the check passed
}

// Limit is the timeout of each check. The checks run concurrently, so Examine takes little longer,
// unless the database is silent.
const Limit = 5 * time.Second

type check struct {
	name string
	run  func(context.Context) Check
}

func ok(format string, args ...any) Check {
	return Check{State: OK, Detail: fmt.Sprintf(format, args...)}
}

func warning(fix, format string, args ...any) Check {
	return Check{State: Warning, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

func failed(fix, format string, args ...any) Check {
	return Check{State: Failed, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

// Examine runs all checks of a complete and valid configuration, and returns them in a fixed order.
func Examine(ctx context.Context, cfg *party.Config) []Check {
	checks := append(localChecks(cfg), environmentChecks(cfg)...)
	checks = append(checks, partnerChecks(ctx, cfg)...)

	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	results := make([]chan Check, len(checks))
	for i, c := range checks {
		results[i] = make(chan Check, 1)
		go func() { results[i] <- c.run(ctx) }()
	}

	found := make([]Check, len(checks))
	// Examine abandons a check that ignores its context one second after the limit.
	late := time.After(Limit + time.Second)
	var timedOut bool
	for i, c := range checks {
		if !timedOut {
			select {
			case found[i] = <-results[i]:
			case <-late:
				timedOut = true
			}
		}
		if timedOut {
			select {
			case found[i] = <-results[i]:
			default:
				found[i] = failed("check whether the service or disk that it examines hangs",
					"no result within %s", Limit)
			}
		}
		found[i].Name = c.name
		found[i].Detail = hide(cfg, found[i].Detail)
	}
	return found
}

// hide replaces the configuration's secrets in a text, because errors of libraries may contain them.
func hide(cfg *party.Config, text string) string {
	secrets := []string{cfg.Temporal.APIKey.Reveal(), cfg.Notifications.SMTP.Password.Reveal()}
	for _, r := range cfg.Notifications.Receivers {
		secrets = append(secrets, r.Webhook.URL.Reveal(), r.Webhook.Secret.Reveal())
	}
	for _, secret := range []party.Secret{cfg.Database.URL, cfg.Storage.URL, cfg.Proxy.URL} {
		u, err := url.Parse(secret.Reveal())
		if err != nil {
			secrets = append(secrets, secret.Reveal())
			continue
		}
		password, _ := u.User.Password()
		secrets = append(secrets, password, u.Query().Get("password"))
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.NewReplacer(secret, "***", url.QueryEscape(secret), "***", url.PathEscape(secret),
				"***").Replace(text)
		}
	}
	return strings.Join(strings.Fields(text), " ") // one line
}
