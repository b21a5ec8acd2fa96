package main

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hutong/bfia"
)

// completionTimeout limits how long the shell waits for a party's answer.
const completionTimeout = 3 * time.Second

// maxCompletions is the number of jobs that the shell offers.
const maxCompletions = 100

// completer finds the values of arguments and flags at the party. Without an answer it offers nothing.
type completer struct{ *client }

// addCompletions lets the shell complete the arguments and flags of all commands: names of jobs, tasks,
// datasets, providers and runners from the party, fixed values, and files by their extension.
func addCompletions(cmd *cobra.Command, c *client) {
	at := completer{c}
	for _, sub := range cmd.Commands() {
		addCompletions(sub, c)
	}
	if cmd.ValidArgsFunction == nil && cmd.RunE != nil && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = at.arguments(cmd)
	}
	for name, complete := range at.flags(cmd) {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // a command's own function stays
		}
	}
}

// arguments returns the completion of a command's arguments, which its usage names.
func (c completer) arguments(cmd *cobra.Command) cobra.CompletionFunc {
	parent := ""
	if cmd.HasParent() {
		parent = cmd.Parent().Name()
	}
	words := strings.Fields(cmd.Use)[1:]
	first := ""
	if len(words) > 0 {
		first = words[0]
	}
	switch {
	case takesJobID(cmd):
		return c.firstArgument(c.jobs)
	case parent == "job" && first == "ID...":
		return c.anywhere(c.jobs)
	case first == "NODE_ID...":
		return c.anywhere(c.partners)
	case parent == "runner" && first == "RUNNER":
		return c.firstArgument(c.runners)
	case first == "RECEIVER":
		return c.firstArgument(c.receivers)
	case first == "NOTIFICATION":
		return c.firstArgument(c.notifications)
	case first == "MODEL":
		return c.firstArgument(c.models)
	case parent == "partner" && (first == "NODE" || first == "[NODE]") && cmd.Name() != "invite":
		return c.firstArgument(c.contracts)
	case first == "TOKEN_ID":
		return c.firstArgument(c.tokenIDs)
	case first == "PERIODIC":
		return c.firstArgument(c.periodicJobs)
	case first == "GRANT":
		return c.firstArgument(c.grants)
	case first == "RULE":
		return c.firstArgument(c.approvalRules)
	case first == "REQUEST":
		return c.firstArgument(c.grantRequests)
	case parent == "provider" && first == "NAME":
		return c.firstArgument(c.providers("name"))
	case parent == "data" && first == "NAMESPACE":
		return c.datasets
	case first == "[FILE]":
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
		}
	}
	return cobra.NoFileCompletions
}

// flags returns the completions of a command's flags by name.
func (c completer) flags(cmd *cobra.Command) map[string]cobra.CompletionFunc {
	jsonFiles := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
	}
	all := map[string]cobra.CompletionFunc{
		"request":   jsonFiles,
		"namespace": c.anywhere(c.namespaces),
		"provider":  c.anywhere(c.providers("name")),
		"version":   c.anywhere(c.providers("version")),
		"device": cobra.FixedCompletions([]string{string(bfia.DeviceDocker), string(bfia.DeviceProcess),
			string(bfia.DeviceKubernetes)}, cobra.ShellCompDirectiveNoFileComp),
		"flow":     c.anywhere(c.flows),
		"state":    severalOf(stateNames),
		"outcome":  severalOf(outcomeNames),
		"partner":  c.anywhere(c.partners),
		"encoding": cobra.FixedCompletions(encodings, cobra.ShellCompDirectiveNoFileComp),
		"config": func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch kind := f.Value.Type(); {
		case kind == "int", kind == "duration", slices.Contains(freeText, f.Name):
			all[f.Name] = cobra.NoFileCompletions
		}
	})
	if takesJobID(cmd) {
		all["task"], all["role"] = c.anywhere(c.tasks), c.anywhere(c.roles)
		all["output"] = c.anywhere(c.outputs)
	} else {
		all["file"] = jsonFiles
	}
	if cmd.Name() == "upload" {
		delete(all, "file") // any file
	}
	if cmd.HasParent() && cmd.Parent().Name() == "provider" {
		all["name"] = c.anywhere(c.providers("name"))
	}
	return all
}

// encodings are the encodings of uploads that the shell offers; others work too.
var encodings = []string{"utf-8", "gbk", "gb18030", "big5", "utf-16", "windows-1252", "iso-8859-1",
	"shift_jis", "euc-kr"}

// freeText are the flags whose values only the user knows: neither files nor names at the party.
var freeText = []string{"since", "until", "reason", "url", "delimiter", "label", "note", "cron", "timezone",
	"request-id"}

// severalOf completes the last of several values, separated by commas.
func severalOf(values []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndex(typed, ",")+1]
		var found []string
		for _, value := range values {
			if !slices.Contains(strings.Split(before, ","), value) {
				found = append(found, before+value)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (c completer) firstArgument(complete func(context.Context, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := c.limit(cmd)
		defer cancel()
		return complete(ctx, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// anywhere returns the completion of a flag.
func (c completer) anywhere(complete func(context.Context, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := c.limit(cmd)
		defer cancel()
		return complete(ctx, args), cobra.ShellCompDirectiveNoFileComp
	}
}

func (c completer) limit(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, completionTimeout)
}

func (c completer) jobs(ctx context.Context, _ []string) []string {
	jobs, _ := c.jobsBeginning(ctx, "", maxCompletions)
	var found []string
	for _, j := range jobs {
		found = append(found, cobra.CompletionWithDesc(j.JobID,
			strings.TrimSpace(string(j.State)+" "+plain(j.FlowID))))
	}
	return found
}

func (c completer) runners(ctx context.Context, _ []string) []string {
	var runners []bfia.Runner
	_ = c.get(ctx, bfia.PathRunnerQuery, nil, &runners)
	var found []string
	for _, r := range runners {
		found = append(found, cobra.CompletionWithDesc(r.RunnerID, string(r.State)))
	}
	return found
}

func (c completer) receivers(ctx context.Context, _ []string) []string {
	var list bfia.NotificationList
	_ = c.get(ctx, bfia.PathNotificationQuery, url.Values{"limit": {"1"}}, &list)
	var found []string
	for _, r := range list.Receivers {
		found = append(found, cobra.CompletionWithDesc(r.Name, r.Channel+" "+plain(r.Target)))
	}
	return found
}

func (c completer) notifications(ctx context.Context, _ []string) []string {
	var list bfia.NotificationList
	_ = c.get(ctx, bfia.PathNotificationQuery, nil, &list)
	var found []string
	for _, n := range list.Notifications {
		found = append(found, cobra.CompletionWithDesc(n.NotificationID,
			string(n.State)+" "+plain(n.Receiver+" "+n.Event+" "+n.ObjectID)))
	}
	return found
}

func (c completer) models(ctx context.Context, _ []string) []string {
	var models []bfia.ModelView
	_ = c.get(ctx, bfia.PathModelQuery, nil, &models)
	var found []string
	for _, m := range models {
		found = append(found, m.Model)
	}
	return distinct(found)
}

// contracts completes the node ids of partners, also of those that have only applied.
func (c completer) contracts(ctx context.Context, _ []string) []string {
	var partners []bfia.PartnerView
	_ = c.get(ctx, bfia.PathPartnerQuery, nil, &partners)
	var found []string
	for _, p := range partners {
		found = append(found, cobra.CompletionWithDesc(p.NodeID, string(p.State)))
	}
	return found
}

func (c completer) tokenIDs(ctx context.Context, _ []string) []string {
	var tokens []bfia.TokenView
	_ = c.get(ctx, bfia.PathTokenQuery, nil, &tokens)
	var found []string
	for _, t := range tokens {
		found = append(found, cobra.CompletionWithDesc(t.TokenID, plain(t.Name)))
	}
	return found
}

func (c completer) periodicJobs(ctx context.Context, _ []string) []string {
	var jobs []bfia.Periodic
	_ = c.get(ctx, bfia.PathPeriodicQuery, nil, &jobs)
	var found []string
	for _, p := range jobs {
		found = append(found, cobra.CompletionWithDesc(p.Name, plain(p.Cron+", "+string(p.State))))
	}
	return found
}

func (c completer) grants(ctx context.Context, _ []string) []string {
	var grants []bfia.DataGrant
	_ = c.get(ctx, bfia.PathGrantQuery, nil, &grants)
	var found []string
	for _, g := range grants {
		found = append(found, cobra.CompletionWithDesc(g.ID, plain(g.Partner+" "+g.Dataset)))
	}
	return found
}

func (c completer) approvalRules(ctx context.Context, _ []string) []string {
	var rules []bfia.ApprovalRule
	_ = c.get(ctx, bfia.PathApprovalRuleQuery, nil, &rules)
	var found []string
	for _, r := range rules {
		if r.State(time.Now()) == "active" {
			found = append(found, cobra.CompletionWithDesc(r.ID, plain(r.Scope.Initiator+" "+r.Note)))
		}
	}
	return found
}

func (c completer) grantRequests(ctx context.Context, _ []string) []string {
	var requests []bfia.GrantRequestView
	_ = c.get(ctx, bfia.PathGrantRequests, nil, &requests)
	var found []string
	for _, r := range requests {
		found = append(found, cobra.CompletionWithDesc(r.AuditID, plain(r.Partner+" "+r.Dataset)))
	}
	return found
}

// providers completes a field of the registered providers.
func (c completer) providers(field string) func(context.Context, []string) []string {
	return func(ctx context.Context, _ []string) []string {
		var providers []map[string]json.RawMessage
		_ = c.get(ctx, bfia.PathProviderQuery, nil, &providers)
		var found []string
		for _, p := range providers {
			var value string
			if json.Unmarshal(p[field], &value) == nil {
				found = append(found, value)
			}
		}
		return distinct(found)
	}
}

func (c completer) tables(ctx context.Context) []bfia.Address {
	var tables []struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	_ = c.get(ctx, bfia.PathDataQuery, nil, &tables)
	var found []bfia.Address
	for _, t := range tables {
		found = append(found, bfia.Address{Namespace: t.Namespace, Name: t.Name})
	}
	return found
}

// datasets completes the arguments NAMESPACE NAME.
func (c completer) datasets(cmd *cobra.Command, args []string, _ string) ([]string,
	cobra.ShellCompDirective) {
	ctx, cancel := c.limit(cmd)
	defer cancel()
	var found []string
	for _, t := range c.tables(ctx) {
		switch {
		case len(args) == 0:
			found = append(found, t.Namespace)
		case len(args) == 1 && t.Namespace == args[0]:
			found = append(found, t.Name)
		}
	}
	return distinct(found), cobra.ShellCompDirectiveNoFileComp
}

func (c completer) namespaces(ctx context.Context, _ []string) []string {
	var found []string
	for _, t := range c.tables(ctx) {
		found = append(found, t.Namespace)
	}
	return distinct(found)
}

// parties returns the node ids of the newest jobs' parties.
func (c completer) parties(ctx context.Context, _ []string) []string {
	jobs, _ := c.jobsBeginning(ctx, "", maxCompletions)
	var found []string
	for _, j := range jobs {
		found = append(found, j.Parties...)
	}
	return distinct(found)
}

// partners returns the node ids of the newest jobs' other parties that are not given yet.
func (c completer) partners(ctx context.Context, given []string) []string {
	var own struct {
		NodeID string `json:"node_id"`
	}
	_ = c.get(ctx, bfia.PathHealth, nil, &own)
	return slices.DeleteFunc(c.parties(ctx, nil), func(id string) bool {
		return id == own.NodeID || slices.Contains(given, id)
	})
}

func (c completer) flows(ctx context.Context, _ []string) []string {
	jobs, _ := c.jobsBeginning(ctx, "", maxCompletions)
	var found []string
	for _, j := range jobs {
		if j.FlowID != "" {
			found = append(found, plain(j.FlowID))
		}
	}
	return distinct(found)
}

// tasks completes the tasks of the job that is the first argument.
func (c completer) tasks(ctx context.Context, args []string) []string {
	if len(args) == 0 {
		return nil
	}
	status, err := c.status(ctx, args[0])
	if err != nil {
		return nil
	}
	return taskNames(status)
}

func (c completer) roles(ctx context.Context, args []string) []string {
	if len(args) == 0 {
		return nil
	}
	status, err := c.status(ctx, args[0])
	if err != nil {
		return nil
	}
	var found []string
	for _, t := range status.Tasks {
		for _, p := range t.Parties {
			found = append(found, cobra.CompletionWithDesc(partName(p), p.NodeID))
		}
	}
	return distinct(found)
}

func (c completer) outputs(ctx context.Context, args []string) []string {
	if len(args) == 0 {
		return nil
	}
	var list struct {
		Outputs []bfia.Output `json:"outputs"`
	}
	_ = c.get(ctx, bfia.PathJobOutputs, url.Values{"job_id": {args[0]}}, &list)
	var found []string
	for _, o := range list.Outputs {
		found = append(found, cobra.CompletionWithDesc(outputName(o), o.TaskName+" "+o.Type))
	}
	return distinct(found)
}

func distinct(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
