package doctor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/link"
	"hutong/internal/partners"
	"hutong/internal/party"
)

// linkChecks returns the checks of the links with a partner: those that it keeps to this party's transports,
// or that this party keeps to each of the partner's addresses.
func linkChecks(cfg *party.Config, name string, p partners.Partner, links *link.Dialer,
	over http.RoundTripper) []check {
	if p.Link == partners.Inbound {
		return []check{{name + ".link", func(ctx context.Context) Check {
			return checkInboundLinks(ctx, p.Node, links)
		}}}
	}
	var checks []check
	for _, url := range cfg.Routes[p.Node].KeptLinks() {
		checks = append(checks, check{name + ".link", func(ctx context.Context) Check {
			return checkOutboundLinks(ctx, p.Node, url, over)
		}})
	}
	return checks
}

func checkInboundLinks(ctx context.Context, node string, links *link.Dialer) Check {
	if links == nil {
		return failed("see the check of the database", "failed to find this party's transports, which hold "+
			"the links")
	}
	states, err := links.States(ctx)
	states = slices.DeleteFunc(states, func(s link.State) bool { return s.Node != node })
	check := judgeLinks(states, "the links of "+node,
		"ask the partner whether its API and transport run and have link outbound for this party; check that "+
			"its firewall lets it connect to transport.partner_listen of this party")
	if err != nil && check.State == OK {
		return warning("start each transport", "%s; but failed to ask all transports: %v", check.Detail, err)
	}
	if err != nil {
		check.Detail += fmt.Sprintf("; failed to ask all transports: %v", err)
	}
	return check
}

// checkOutboundLinks asks a partner's transport which links of this party it holds.
func checkOutboundLinks(ctx context.Context, node, url string, over http.RoundTripper) Check {
	const remedy = "start this party's API and transport; ask the partner whether its route for this party has " +
		"link inbound, and whether its transport is at this address"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(url, "/")+bfia.PathNodeLink,
		nil)
	if err != nil {
		return failed("correct link_urls", "%v", err)
	}
	r.Header.Set("x-target-node-id", node)
	resp, err := over.RoundTrip(r)
	var states []link.State
	if err == nil {
		states, err = link.ReadStates(resp)
	}
	if err != nil {
		return failed(remedy, "failed to ask %s for this party's links: %v", url, err)
	}
	return judgeLinks(states, "the links to "+url, remedy)
}

// judgeLinks checks that links are up for all services of a party.
func judgeLinks(states []link.State, what, remedy string) Check {
	var missing []string
	var oldest time.Time
	for _, service := range []link.Service{link.Commands, link.Messages} {
		if !slices.ContainsFunc(states, func(s link.State) bool {
			return slices.Contains(s.Services, service)
		}) {
			missing = append(missing, fmt.Sprintf("none for %s is up", service))
		}
	}
	for _, s := range states {
		if oldest.IsZero() || s.Since.Before(oldest) {
			oldest = s.Since
		}
	}
	if len(missing) > 0 {
		return failed(remedy, "of %s, %s", what, strings.Join(missing, ", "))
	}
	return ok("%d of %s up, the oldest since %s", len(states), what,
		oldest.UTC().Format("2006-01-02 15:04:05Z"))
}
