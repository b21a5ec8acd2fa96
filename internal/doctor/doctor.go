// Package doctor examines a party's configuration and surroundings, and says what is wrong and how to mend it. It needs
// no running party, and changes nothing but for a probe object in the storage and probe files, which it removes.
package doctor

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"hutong/internal/party"
)

// State is how a check ended.
type State string

// A warning does not keep the party from working, or not all of it.
const (
	OK      State = "ok"
	Warning State = "warning"
	Failed  State = "FAILED"
)

// Check is one finding. It holds no secret of the configuration.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what to do; empty when all is well
}

// Limit bounds each check, and as they run beside each other nearly all of Examine.
const Limit = 5 * time.Second

type check struct {
	name string
	run  func(context.Context) Check
}

func ok(format string, args ...any) Check {
	return Check{State: OK, Detail: fmt.Sprintf(format, args...)}
}

func warning(mend, format string, args ...any) Check {
	return Check{State: Warning, Detail: fmt.Sprintf(format, args...), Fix: mend}
}

func failed(mend, format string, args ...any) Check {
	return Check{State: Failed, Detail: fmt.Sprintf(format, args...), Fix: mend}
}

// Examine runs all checks of a configuration that is complete and valid. Their order is always the same.
func Examine(ctx context.Context, cfg *party.Config) []Check {
	checks := append(local(cfg), surroundings(cfg)...)
	checks = append(checks, partners(cfg)...)
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	results := make([]chan Check, len(checks))
	for i, c := range checks {
		results[i] = make(chan Check, 1)
		go func() { results[i] <- c.run(ctx) }()
	}
	found := make([]Check, len(checks))
	// A check that does not heed its context is left behind, a second after the limit.
	late := time.After(Limit + time.Second)
	var over bool
	for i, c := range checks {
		if !over {
			select {
			case found[i] = <-results[i]:
			case <-late:
				over = true
			}
		}
		if over {
			select {
			case found[i] = <-results[i]:
			default:
				found[i] = failed("see whether what it asks hangs", "no answer within %s", Limit)
			}
		}
		found[i].Name = c.name
		found[i].Detail = hide(cfg, found[i].Detail)
	}
	return found
}

// hide takes the configuration's secrets out of a text, whatever a driver's error says.
func hide(cfg *party.Config, text string) string {
	secrets := []string{cfg.Temporal.APIKey.Reveal()}
	for _, secret := range []party.Secret{cfg.Database.URL, cfg.Storage.URL} {
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
			text = strings.NewReplacer(secret, "***", url.QueryEscape(secret), "***", url.PathEscape(secret), "***").Replace(text)
		}
	}
	return strings.Join(strings.Fields(text), " ") // one line
}
