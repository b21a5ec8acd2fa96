package bfia

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Endpoints for administrators of a party; Hutong's additions.
const (
	PathGrantAdd    = "/v2/grant/add"
	PathGrantQuery  = "/v2/grant/query"
	PathGrantRevoke = "/v2/grant/revoke"
)

// DataGrant lets the jobs of a partner run components of a party on datasets of that party.
type DataGrant struct {
	ID string `json:"grant_id"`
	// Partner is the node id of the initiator of the jobs.
	Partner string `json:"partner"`
	// Component is a pattern of names: Component, provider/Component or provider:version/Component. In each
	// part * matches any text and ? one character.
	Component string `json:"component"`
	// Dataset is a pattern of addresses, namespace#name, or * for all. Empty: the component may run, but on
	// no dataset of the party.
	Dataset string `json:"dataset"`
	// Until is the end of the grant; nil: it has none.
	Until *time.Time `json:"until"`
	// Times is how many jobs may use the grant; 0: any number. Used is how many have.
	Times     int        `json:"times"`
	Used      int        `json:"used"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at"`
	// AuditID is the id of the partner's request for the grant, or empty if nobody has asked for it.
	AuditID string `json:"audit_id,omitempty"`
	// PermitHash is the hash of the token of the permit, if the partner has asked for the grant.
	PermitHash string `json:"-"`
	// Unpermitted is set if the grant requires its permit, which a job does not present.
	Unpermitted bool `json:"-"`
}

// GrantRef names a grant.
type GrantRef struct {
	ID string `json:"grant_id"`
}

// maxGrantTimes bounds [DataGrant.Times].
const maxGrantTimes = 1_000_000

var grantPattern = regexp.MustCompile(`^[A-Za-z0-9_.*?-]{1,128}$`)

// Check returns an error that names the field which is wrong in a new grant of a party.
func (g *DataGrant) Check(node string, now time.Time) error {
	if err := CheckID("partner", g.Partner); err != nil {
		return err
	}
	if g.Partner == node {
		return Errorf(CodeBadRequest, "partner: %s is this party, whose own jobs need no grant", node)
	}
	provider, name, qualified := strings.Cut(g.Component, "/")
	if !qualified {
		provider, name = "*", g.Component
	}
	provider, version, versioned := strings.Cut(provider, ":")
	if !grantPattern.MatchString(name) || !grantPattern.MatchString(provider) ||
		versioned && !grantPattern.MatchString(version) {
		return Errorf(CodeBadRequest, "component: %q must be a pattern such as HeteroLR, unionpay/HeteroLR, "+
			"unionpay:2.0.0/Hetero* or *", g.Component)
	}
	namespace, table, addressed := strings.Cut(g.Dataset, "#")
	if g.Dataset != "" && g.Dataset != "*" &&
		(!addressed || !grantPattern.MatchString(namespace) || !grantPattern.MatchString(table)) {
		return Errorf(CodeBadRequest,
			"dataset: %q must be a pattern such as namespace#name, namespace#* or *",
			g.Dataset)
	}
	if g.Times < 0 || g.Times > maxGrantTimes {
		return Errorf(CodeBadRequest, "times: must be from 1 to %d, or 0 for any number of jobs",
			maxGrantTimes)
	}
	if g.Until != nil && !g.Until.After(now) {
		return Errorf(CodeBadRequest, "until: %s is over", g.Until.Format(time.RFC3339))
	}
	return nil
}

// State is active, revoked, expired or used up.
func (g *DataGrant) State(now time.Time) string {
	switch {
	case g.RevokedAt != nil:
		return "revoked"
	case g.Until != nil && !now.Before(*g.Until):
		return "expired"
	case g.Times > 0 && g.Used >= g.Times:
		return "used up"
	}
	return "active"
}

// GrantNeed is what a job of a partner does at a party: it runs a component, on a dataset of the party or on
// what other tasks have made of one.
type GrantNeed struct {
	Task, Provider, Version, Component string
	Dataset                            string // namespace#name, or "" for none
}

// GrantNeeds returns what a job does at a node, each component and dataset once, in the plan's order. A task
// needs the datasets of the node that it reads, and those of all tasks on which it depends: otherwise a grant
// for one component on a dataset would let every other component read its results.
func GrantNeeds(doc *Document, plan *Plan, describe Describe, node string) ([]GrantNeed, error) {
	type key struct{ provider, version, component, dataset string }
	var needs []GrantNeed
	seen := map[key]bool{}
	reads := map[string][]string{}
	for i := range plan.Tasks {
		t := &plan.Tasks[i]
		own := t.PartsOf(node)
		var datasets []string
		for _, upstream := range t.DependsOn {
			datasets = append(datasets, reads[upstream]...)
		}
		for _, part := range own {
			address, err := doc.RootDataset(describe, t.Name, part)
			if err != nil {
				return nil, err
			}
			if address != nil {
				if real, synthetic := address.Rehearsed(); synthetic {
					address = &real // its synthetic dataset shows the columns, which a grant is for too
				}
				datasets = append(datasets, address.String())
			}
		}
		slices.Sort(datasets)
		datasets = slices.Compact(datasets)
		reads[t.Name] = datasets
		if len(own) == 0 {
			continue
		}
		if len(datasets) == 0 {
			datasets = []string{""}
		}
		for _, dataset := range datasets {
			k := key{t.Provider, t.Version, t.Component, dataset}
			if !seen[k] {
				seen[k] = true
				needs = append(needs, GrantNeed{Task: t.Name, Provider: t.Provider, Version: t.Version,
					Component: t.Component, Dataset: dataset})
			}
		}
	}
	return needs, nil
}

// ChooseGrants returns the ids of the grants that a job of a partner uses, sorted. now decides on their ends.
// counted holds the grants that count the job already, which is not counted twice. If anything is not granted
// it returns CodeForbidden, with all that is missing and the commands that give it.
//
// Of several grants for the same, one without a limit is used, else one that the job uses anyway, else the
// one that ends first.
func ChooseGrants(node, partner string, grants []DataGrant, counted map[string]bool, needs []GrantNeed,
	now time.Time) ([]string, error) {
	var own []DataGrant
	for _, g := range grants {
		if g.Partner == partner {
			own = append(own, g)
		}
	}
	chosen := map[string]bool{}
	var missing []string
	for _, need := range needs {
		var usable []DataGrant
		for _, g := range own {
			state := g.State(now)
			if g.covers(need) && !g.Unpermitted && (state == "active" || state == "used up" &&
				counted[g.ID]) {
				usable = append(usable, g)
			}
		}
		if len(usable) == 0 {
			missing = append(missing, need.missing(node, partner, own, now))
			continue
		}
		best := slices.MinFunc(usable, func(a, b DataGrant) int {
			free := func(g DataGrant) int {
				switch {
				case counted[g.ID]:
					return 0
				case g.Times == 0:
					return 1
				case chosen[g.ID]:
					return 2
				}
				return 3
			}
			return cmp.Or(cmp.Compare(free(a), free(b)), compareEnds(a.Until, b.Until),
				cmp.Compare(a.ID, b.ID))
		})
		chosen[best.ID] = true
	}
	if len(missing) > 0 {
		const shown = 5
		more := ""
		if len(missing) > shown {
			more = fmt.Sprintf("; and %d more", len(missing)-shown)
			missing = missing[:shown]
		}
		return nil, Errorf(CodeForbidden, "%s%s", strings.Join(missing, "; "), more)
	}
	return sortedKeys(chosen), nil
}

func compareEnds(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Compare(*b)
}

// covers reports whether a grant is for a component and a dataset, whatever its state.
func (g *DataGrant) covers(need GrantNeed) bool {
	return g.coversComponent(need) && g.coversDataset(need.Dataset)
}

func (g *DataGrant) coversComponent(need GrantNeed) bool {
	provider, name, qualified := strings.Cut(g.Component, "/")
	if !qualified {
		return matches(g.Component, need.Component)
	}
	provider, version, versioned := strings.Cut(provider, ":")
	return matches(name, need.Component) && matches(provider, need.Provider) &&
		(!versioned || matches(version, need.Version))
}

func (g *DataGrant) coversDataset(dataset string) bool {
	if dataset == "" || g.Dataset == "*" {
		return true
	}
	namespace, name, _ := strings.Cut(g.Dataset, "#")
	ofNamespace, ofName, _ := strings.Cut(dataset, "#")
	return matches(namespace, ofNamespace) && matches(name, ofName)
}

// matches is false for a malformed pattern.
func matches(pattern, text string) bool {
	matched, err := path.Match(pattern, text)
	return err == nil && matched
}

// missing says what is not granted, why, and which command grants it.
func (n GrantNeed) missing(node, partner string, own []DataGrant, now time.Time) string {
	var reason string
	component := n.Provider + "/" + n.Component
	var ofComponent, ofBoth []DataGrant
	for _, g := range own {
		if g.coversComponent(n) {
			ofComponent = append(ofComponent, g)
		}
		if g.covers(n) {
			ofBoth = append(ofBoth, g)
		}
	}
	switch {
	case len(own) == 0:
		reason = fmt.Sprintf("partner: %s has no grant at %s", partner, node)
	case len(ofComponent) == 0:
		reason = fmt.Sprintf("component: %s has no grant for %s at %s", partner, component, node)
	case len(ofBoth) == 0:
		reason = fmt.Sprintf("dataset: %s has no grant for %s on dataset %s at %s", partner, component,
			n.Dataset, node)
	default:
		last := slices.MaxFunc(ofBoth, func(a, b DataGrant) int { return a.CreatedAt.Compare(b.CreatedAt) })
		reason = fmt.Sprintf("grant: that of %s for %s%s at %s %s", partner, component, n.on(), node,
			last.ended(now))
	}
	command := "hutong grant add --partner " + partner + " --component " + component
	if n.Dataset != "" {
		command += " --dataset '" + n.Dataset + "'"
	}
	return fmt.Sprintf("%s (task %s%s); an administrator of %s grants it with: %s", reason, n.Task, n.on(),
		node, command)
}

func (n GrantNeed) on() string {
	if n.Dataset == "" {
		return ""
	}
	return " on dataset " + n.Dataset
}

func (g *DataGrant) ended(now time.Time) string {
	switch g.State(now) {
	case "revoked":
		return "was revoked at " + g.RevokedAt.UTC().Format(time.RFC3339)
	case "expired":
		return "ended at " + g.Until.UTC().Format(time.RFC3339)
	}
	if g.Unpermitted && g.State(now) == "active" {
		return "requires its permit in x-mprac-token-set, which the job does not present: 'hutong grant " +
			"requests' at " + g.Partner + " shows whether it has the permit"
	}
	return fmt.Sprintf("was for %d jobs, which have run", g.Times)
}
