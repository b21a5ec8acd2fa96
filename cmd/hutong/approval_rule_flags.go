package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

// ruleFlags hold what flags say of a new rule. They name whose jobs, of which flow, with which components and
// datasets. What they can't name is left open.
type ruleFlags struct {
	partner, flow, role  string
	components, datasets []string
}

// ruleFlagNames are the flags that only go with --partner.
var ruleFlagNames = []string{"flow", "component", "dataset", "role"}

func (f *ruleFlags) register(cmd *cobra.Command, at completer) {
	cmd.Flags().StringVar(&f.partner, "partner", "",
		"the node id of the partner whose jobs the rule approves")
	cmd.Flags().StringVar(&f.flow, "flow", "", "with --partner, the flow of the jobs")
	cmd.Flags().StringSliceVar(&f.components, "component", nil,
		"with --partner, what may run here: provider/Component or provider:version/Component")
	cmd.Flags().StringSliceVar(&f.datasets, "dataset", nil,
		"with --partner, what it may read: namespace#name; none without the flag")
	cmd.Flags().StringVar(&f.role, "role", "host.0", "with --partner, the role of this party")
	_ = cmd.RegisterFlagCompletionFunc("partner", at.anywhere(at.partners))
	_ = cmd.RegisterFlagCompletionFunc("component", at.anywhere(at.components))
	_ = cmd.RegisterFlagCompletionFunc("dataset", at.anywhere(at.datasetNames))
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(
		[]string{"host.0", "guest.0", "arbiter.0"}, cobra.ShellCompDirectiveNoFileComp))
}

// oneSource checks that a rule has one of the sources of its scope, and no flag of another one.
func (f *ruleFlags) oneSource(cmd *cobra.Command, from, file string) error {
	given := 0
	for _, source := range []string{from, file, f.partner} {
		if source != "" {
			given++
		}
	}
	if given != 1 {
		return usagef("one of --from, --file and --partner is required")
	}
	for _, name := range ruleFlagNames {
		if f.partner == "" && cmd.Flags().Changed(name) {
			return usagef("--%s goes with --partner only: --from and --file have the whole scope of the rule",
				name)
		}
	}
	return nil
}

var roleForm = regexp.MustCompile(`^(guest|host|arbiter)\.[0-9]+$`)

// scope returns the scope that the flags name. It leaves the image, columns, parameters and outputs open, and
// the version of a component without one. open lists what else is left open.
func (f *ruleFlags) scope(open []string) (bfia.ApprovalScope, error) {
	scope := bfia.ApprovalScope{Initiator: f.partner, Scheduler: f.partner, FlowID: f.flow,
		Parties: []string{f.partner}, Learns: []bfia.ApprovalLearned{}, Any: []string{bfia.AnyOutputs}}
	if err := bfia.CheckID("partner", f.partner); err != nil {
		return scope, usagef("--%s", bfia.MessageOf(err))
	}
	anyFlow := slices.Contains(open, bfia.AnyFlow)
	switch {
	case f.flow == "" && !anyFlow:
		return scope, usagef("--flow is missing; --any flow approves jobs of every flow")
	case f.flow != "" && anyFlow:
		return scope, usagef("--flow contradicts --any flow: leave one of them out")
	case len(f.components) == 0:
		return scope, usagef("--component is missing: name what may run here, as provider/Component")
	case !roleForm.MatchString(f.role):
		return scope, usagef("--role: %q is not a role with its number, such as host.0", f.role)
	}
	for _, dataset := range f.datasets {
		namespace, name, _ := strings.Cut(dataset, "#")
		if namespace == "" || name == "" || strings.ContainsAny(dataset, "*") {
			return scope, usagef("--dataset: %q is not namespace#name; a rule has no patterns", dataset)
		}
	}
	for _, component := range f.components {
		uses, err := f.uses(component)
		if err != nil {
			return scope, err
		}
		scope.Uses = append(scope.Uses, uses...)
	}
	return scope, nil
}

// uses returns what a component may read: each of the datasets, or none itself, and what earlier tasks make
// of them.
func (f *ruleFlags) uses(component string) ([]bfia.ApprovalUse, error) {
	full, name, _ := strings.Cut(component, "/")
	provider, version, versioned := strings.Cut(full, ":")
	if provider == "" || name == "" || versioned && version == "" || strings.ContainsAny(component, "*") {
		return nil, usagef("--component: %q is neither provider/Component nor provider:version/Component; "+
			"a rule has no patterns", component)
	}
	open := []string{bfia.AnyColumns, bfia.AnyParameters, bfia.AnyVersion}
	if versioned {
		open[2] = bfia.AnyImage
	}
	slices.Sort(open)
	datasets := slices.Sorted(slices.Values(f.datasets))
	var uses []bfia.ApprovalUse
	for _, dataset := range append(datasets, "") {
		uses = append(uses, bfia.ApprovalUse{Role: f.role, Provider: provider, Version: version,
			Component: name, Dataset: dataset, Derived: slices.Clone(datasets), Any: slices.Clone(open)})
	}
	return uses, nil
}

// datasetNames completes datasets as namespace#name.
func (c completer) datasetNames(ctx context.Context, _ []string) []string {
	var found []string
	for _, t := range c.tables(ctx) {
		found = append(found, t.Namespace+"#"+t.Name)
	}
	return distinct(found)
}

// components completes the components of the registered providers as provider:version/Component.
func (c completer) components(ctx context.Context, _ []string) []string {
	var providers []struct {
		Name        string                     `json:"name"`
		Version     string                     `json:"version"`
		Description map[string]json.RawMessage `json:"components_description"`
	}
	_ = c.get(ctx, bfia.PathProviderQuery, nil, &providers)
	var found []string
	for _, p := range providers {
		for name := range p.Description {
			found = append(found, p.Name+":"+p.Version+"/"+name)
		}
	}
	return distinct(found)
}
