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
)

func newConformanceCommand(c *client) *cobra.Command {
	var node, jobFile string
	var asJSON, markdown bool
	target := conformance.Target{}
	cmd := &cobra.Command{
		Use:   "conformance --url URL --node NODE_ID [--job FILE]",
		Short: "Test an implementation of the BFIA control layer",
		Long: "Tests any implementation of the BFIA control layer (the API specification v1.2.0, parts 2 and 3) at --url, and prints\n" +
			"a table: each aspect of each endpoint, the section of the specification, the result, and what was seen. deviates is\n" +
			"what known peers do otherwise and Hutong accepts; FAIL breaks the protocol, and makes the exit status 1.\n\n" +
			"Most checks need a job that the tested party can run by itself: --job names a document whose tasks end well when\n" +
			"that party plays all roles. Its initiator, nodes and ids are set by the checks, which run it about six times. Without\n" +
			"it, they are skipped. The checks also register a component that nothing uses, of provider \"conformance\".",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if node == "" {
				var who struct {
					NodeID string `json:"node_id"`
				}
				if err := c.get(cmd.Context(), bfia.PathHealth, nil, &who); err != nil || who.NodeID == "" {
					return usagef("--node is required: %s does not tell its node id", c.url)
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
			target.URL, target.Node, target.HTTP = c.url, node, &http.Client{Timeout: c.timeout}
			results, err := conformance.Run(cmd.Context(), target, nil)
			if err != nil {
				return err
			}
			return printConformance(cmd, results, asJSON, markdown)
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "the tested party's node id (default: what a Hutong says of itself)")
	cmd.Flags().StringVar(&jobFile, "job", "", "a job that the tested party can run by itself, JSON")
	cmd.Flags().DurationVar(&target.Timeout, "patience", 0, "how long the job may take (default 5m)")
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
