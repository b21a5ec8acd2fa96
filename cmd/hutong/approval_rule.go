package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newApprovalCommand(c *client) *cobra.Command {
	return group("approval", "Approve jobs by rules", group("rule",
		"Add, list and remove rules that approve jobs", newApprovalRuleAdd(c), newApprovalRuleList(c),
		newApprovalRuleShow(c), newApprovalRuleRemove(c)))
}

// anyNames are what a rule may leave open.
var anyNames = []string{bfia.AnyFlow, bfia.AnyParties, bfia.AnyOutputs, bfia.AnyVersion, bfia.AnyImage,
	bfia.AnyColumns, bfia.AnyModel, bfia.AnyParameters}

// ruleRequest is the body of a request for a new rule.
type ruleRequest struct {
	Scope bfia.ApprovalScope `json:"scope"`
	Until *time.Time         `json:"until"`
	Note  string             `json:"note,omitempty"`
	JobID string             `json:"job_id,omitempty"`
	// Project is the project of whose jobs the rule decides. Empty: the party chooses.
	Project string `json:"project,omitempty"`
}

func newApprovalRuleAdd(c *client) *cobra.Command {
	var request ruleRequest
	var flags ruleFlags
	var file, until string
	var open []string
	var yes bool
	cmd := &cobra.Command{
		Use: "add", Short: "Add a rule that approves jobs", Args: noArguments,
		Long: "Adds a rule that approves jobs of which it covers every part at this party, from now\n" +
			"on and until it ends or is removed. It counts where the configuration says\n" +
			"jobs.approval: manual. Jobs that wait already still need a person.\n\n" +
			"--from makes the rule that exactly this job needs: its initiator and scheduler, its flow,\n" +
			"its components with the ids of their images, its datasets with their columns, its\n" +
			"parameters, and the outputs that other parties get. --any leaves something of it open:\n" +
			"flow, parties, outputs, version (of the components, with any image), image, columns,\n" +
			"model, parameters.\n\n" +
			"--partner, --flow, --component and --dataset make a rule without a job: the jobs of this\n" +
			"partner, with no third party, that run these components on these datasets. Images, columns,\n" +
			"parameters and the outputs that the partner gets are open, and the version of a component\n" +
			"named without one. Name each component that such a job runs here.\n\n" +
			"--file reads the scope of the rule from a JSON file, such as the field scope in the\n" +
			"output of 'hutong approval rule show RULE --json' or 'hutong job show ID --approval --json'.\n\n" +
			"The command prints what the rule allows and asks. --yes adds it without a question.",
		Example: "  hutong approval rule add --from 202601021200000000001 --until 30d --note 'contract 17'\n" +
			"  hutong approval rule add --from 202601021200000000001 --any parameters --until 30d --yes\n" +
			"  hutong approval rule add --partner JG0100001100000010 --flow monthly " +
			"--component hutong:1.0.0/Intersection --dataset 'bank#customers' --until 30d\n" +
			"  hutong approval rule add --file scope.json --until 30d",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.oneSource(cmd, request.JobID, file); err != nil {
				return err
			}
			if until == "" {
				return usagef("--until is missing: a rule must end")
			}
			if err := readUntil(until, &request.Until); err != nil {
				return err
			}
			var err error
			if flags.partner != "" {
				request.Scope, err = flags.scope(open)
			} else {
				err = c.readScope(cmd.Context(), &request, file)
			}
			if err != nil {
				return err
			}
			if request.Scope, err = request.Scope.Open(open); err != nil {
				return usagef("--%s", bfia.MessageOf(err))
			}
			if err := confirmRule(cmd, &request, yes); err != nil {
				return err
			}
			var added bfia.ApprovalRule
			if _, err := c.post(cmd.Context(), bfia.PathApprovalRuleAdd, request, &added); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "added; to end it: hutong approval rule remove %s\n",
				plain(added.ID))
			return err
		},
	}
	cmd.Flags().StringVar(&request.JobID, "from", "", "the job that the rule is made of")
	cmd.Flags().StringVar(&file, "file", "", "a JSON file with the scope of the rule; - for standard input")
	cmd.Flags().StringSliceVar(&open, "any", nil, "what the rule leaves open, separated by commas")
	cmd.Flags().StringVar(&until, "until", "", "the end of the rule, a time or a duration from now")
	cmd.Flags().StringVar(&request.Note, "note", "", "why, for those who read the rule later")
	cmd.Flags().StringVar(&request.Project, "project", "",
		"only for jobs of this project (default: your only project, or those of all)")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "add the rule without asking")
	at := completer{c}
	flags.register(cmd, at)
	_ = cmd.RegisterFlagCompletionFunc("from", at.anywhere(at.jobs))
	_ = cmd.RegisterFlagCompletionFunc("any", severalOf(anyNames))
	return cmd
}

// readScope reads the scope of a new rule from a job or a file.
func (c *client) readScope(ctx context.Context, request *ruleRequest, file string) error {
	if file == "" {
		var approval bfia.Approval
		if err := c.get(ctx, bfia.PathJobApproval, url.Values{"job_id": {request.JobID}},
			&approval); err != nil {
			return err
		}
		if approval.Scope == nil {
			return fmt.Errorf("job %s has no part at this party, so no rule can approve it here",
				request.JobID)
		}
		request.Scope = *approval.Scope
		return nil
	}
	in := os.Stdin
	if file != "-" {
		var err error
		if in, err = os.Open(file); err != nil {
			return fmt.Errorf("failed to read the scope of the rule: %w", err)
		}
		defer func() { _ = in.Close() }()
	}
	d := json.NewDecoder(in)
	d.DisallowUnknownFields() // a misspelt field would be left out of the rule
	if err := d.Decode(&request.Scope); err != nil {
		return fmt.Errorf("failed to read the scope of the rule from %s: %w", file, err)
	}
	return nil
}

// confirmRule prints what a rule allows and asks whether to add it. Without a terminal nobody could answer,
// so it requires --yes.
func confirmRule(cmd *cobra.Command, request *ruleRequest, yes bool) error {
	out := cmd.OutOrStdout()
	rule := bfia.ApprovalRule{Scope: request.Scope, Until: *request.Until, Note: request.Note,
		Project: request.Project}
	rule.Describe()
	for _, text := range rule.Text {
		if _, err := fmt.Fprintln(out, plainSentence(text)); err != nil {
			return err
		}
	}
	if yes {
		return nil
	}
	stdin, ok := cmd.InOrStdin().(*os.File)
	if !ok || terminal(stdin) == nil || terminal(out) == nil {
		return usagef("nobody was asked, since this is no terminal: add --yes to add the rule")
	}
	if _, err := fmt.Fprint(out, "\nApprove such jobs without asking? [y/N] "); err != nil {
		return err
	}
	answer, _ := bufio.NewReader(stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return fmt.Errorf("the rule is not added")
	}
	return nil
}

// plainSentence does what plain does, and keeps the indentation.
func plainSentence(text string) string {
	rest := strings.TrimLeft(text, " ")
	return text[:len(text)-len(rest)] + plain(rest)
}

func newApprovalRuleList(c *client) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the rules that approve jobs", Args: noArguments,
		Long: "Lists the active rules, with how many jobs each has approved. --all also lists those\n" +
			"that have ended or were removed.",
		Example: "  hutong approval rule list\n  hutong approval rule list --all -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var rules []bfia.ApprovalRule
			if err := c.get(cmd.Context(), bfia.PathApprovalRuleQuery, nil, &rules); err != nil {
				return err
			}
			now := time.Now()
			if !all {
				rules = slices.DeleteFunc(rules, func(r bfia.ApprovalRule) bool {
					return r.State(now) != "active"
				})
			}
			if asJSON {
				data, err := json.Marshal(rules)
				if err != nil {
					return fmt.Errorf("failed to encode the list of rules: %w", err)
				}
				return printJSON(cmd.OutOrStdout(), data)
			}
			return printList(cmd, "rules", ruleTable(rules, now))
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also the rules that have ended or were removed")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func ruleTable(rules []bfia.ApprovalRule, now time.Time) [][]string {
	rows := [][]string{{"RULE", "INITIATOR", "FLOW", "COMPONENTS", "STATE", "UNTIL", "USED", "BY", "NOTE"}}
	for i := range rules {
		r := &rules[i]
		flow := valueOr(r.Scope.FlowID, "-")
		if slices.Contains(r.Scope.Any, bfia.AnyFlow) {
			flow = "any"
		}
		var components []string
		for _, u := range r.Scope.Uses {
			if !slices.Contains(components, u.Component) {
				components = append(components, u.Component)
			}
		}
		rows = append(rows, []string{r.ID, r.Scope.Initiator, flow, strings.Join(components, ","),
			r.State(now), clock(&r.Until), strconv.Itoa(r.Used), valueOr(r.CreatedBy, "-"),
			valueOr(r.Note, "-")})
	}
	return rows
}

func newApprovalRuleShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show RULE", Short: "Show what a rule allows, who made it and how many jobs it has approved",
		Example: "  hutong approval rule show 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11\n" +
			"  hutong approval rule show 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11 --json",
		Args: exactly("RULE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var rules []json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathApprovalRuleQuery, nil, &rules); err != nil {
				return err
			}
			return showNamed(cmd, asJSON, "rule", "rule_id", args[0], rules)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newApprovalRuleRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "remove RULE", Short: "End a rule that approves jobs", Args: exactly("RULE"),
		Long: "Ends a rule at once. Jobs that it has approved remain approved: 'hutong job stop' stops\n" +
			"them.",
		Example: "  hutong approval rule remove 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := c.post(cmd.Context(), bfia.PathApprovalRuleRemove,
				bfia.ApprovalRuleRef{ID: args[0]}, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), args[0], "is removed")
			return err
		},
	}
}
