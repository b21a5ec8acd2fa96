package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/bfia/conformance"
	durationflag "hutong/internal/duration"
)

func newConformanceCommand(c *client) *cobra.Command {
	var node, jobFile string
	var asJSON, markdown bool
	target := conformance.Target{}
	cmd := &cobra.Command{
		Use:   "conformance --url URL --node NODE_ID [--job FILE]",
		Short: "Test an implementation of the BFIA control layer",
		Long: "Tests an implementation of the BFIA control layer (API specification v1.2.0, parts 2 and\n" +
			"3) at --url. Prints a table with each aspect of each endpoint, the section of the\n" +
			"specification, the result and the observation. 'deviates' marks a known deviation of\n" +
			"other implementations that Hutong accepts. 'FAIL' marks a violation of the protocol; the\n" +
			"exit status is then 1.\n\n" +
			"Most checks need a job that succeeds when the tested party plays all roles; give its\n" +
			"document with --job. The checks set its initiator, nodes and ids, and run it about six\n" +
			"times. They are skipped without it. The checks also register an unused component of\n" +
			"provider \"conformance\".",
		Example: "  hutong conformance --url http://127.0.0.1:9380 --job job.json --markdown",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if node == "" {
				var who struct {
					NodeID string `json:"node_id"`
				}
				if err := c.get(cmd.Context(), bfia.PathHealth, nil, &who); err != nil || who.NodeID == "" {
					return usagef("--node is required: %s does not report its node id", c.url)
				}
				node = who.NodeID
			}
			if jobFile != "" {
				job, err := os.ReadFile(jobFile)
				if err != nil {
					return err
				}
				target.Job = job
			}
			target.URL, target.Node, target.HTTP = c.url, node,
				&http.Client{Transport: userTransport(), Timeout: c.timeout}
			results, err := conformance.Run(cmd.Context(), target, nil)
			if err != nil {
				return err
			}
			return printConformance(cmd, results, asJSON, markdown)
		},
	}
	f := cmd.Flags()
	f.StringVar(&node, "node", "", "node id of the tested party (default: as reported by it)")
	f.StringVar(&jobFile, "job", "", "a job that succeeds with the tested party in all roles (JSON)")
	durationflag.Flag(f, &target.Timeout, "job-timeout", 0, "time limit of the job (default 5m)")
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print the table as Markdown")
	jsonFlag(cmd, &asJSON)
	cmd.MarkFlagsMutuallyExclusive("json", "markdown")
	return cmd
}

func printConformance(cmd *cobra.Command, results []conformance.Result, asJSON, markdown bool) error {
	var err error
	switch {
	case asJSON:
		type row struct {
			Endpoint string              `json:"endpoint"`
			Aspect   string              `json:"aspect"`
			Section  string              `json:"section"`
			Result   conformance.Outcome `json:"result"`
			Seen     string              `json:"seen"`
		}
		list := []row{}
		for _, r := range results {
			list = append(list, row{r.Endpoint, r.Aspect, r.Section, r.Outcome, r.Observed})
		}
		var text []byte
		if text, err = json.Marshal(list); err == nil {
			err = printJSON(cmd.OutOrStdout(), text)
		}
	case markdown:
		err = conformance.Markdown(cmd.OutOrStdout(), results)
	default:
		rows := [][]string{conformance.Header()}
		for _, r := range results {
			rows = append(rows, r.Row())
		}
		err = printTable(cmd.OutOrStdout(), rows)
	}
	_, sayErr := fmt.Fprintln(cmd.ErrOrStderr(), conformance.Summary(results))
	if err = errors.Join(err, sayErr); err == nil && !conformance.Conforms(results) {
		return errSaid
	}
	return err
}
