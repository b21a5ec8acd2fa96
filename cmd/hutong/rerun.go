package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobRerun(c *client) *cobra.Command {
	var s submission
	var fresh bool
	cmd := &cobra.Command{
		Use:   "rerun ID",
		Short: "Submit a job again, and reuse what the first one achieved",
		Long: "Submits the document of a job that has ended as a new job, and prints the new id. Tasks\n" +
			"that succeeded are not run again: their outputs are reused, if their parameters and\n" +
			"inputs are the same and all parties still have them (old_job_id). --fresh runs all tasks.\n" +
			"Only the party that submitted the job can do so.",
		Example: "  hutong job rerun 202601021200000000001 --watch\n" +
			"  hutong job rerun 202601021200000000001 --fresh",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := c.status(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !ended(status) {
				return fmt.Errorf("job %s has not ended: it is %s; wait for it, or stop it first", args[0],
					status.State)
			}
			document, err := c.document(cmd, args[0])
			if err != nil {
				return err
			}
			delete(document, "job_id")
			delete(document, "old_job_id")
			if !fresh {
				document["old_job_id"] = inJSON(args[0])
			}
			return c.submitDocument(cmd, document, "job "+args[0], s)
		},
	}
	cmd.Flags().BoolVar(&fresh, "fresh", false, "reuse no outputs")
	s.flags(cmd)
	return cmd
}

// document returns the document of a job.
func (c *client) document(cmd *cobra.Command, jobID string) (map[string]json.RawMessage, error) {
	var answer struct {
		Document map[string]json.RawMessage `json:"document"`
	}
	if err := c.get(cmd.Context(), bfia.PathJobDocument, url.Values{"job_id": {jobID}}, &answer); err != nil {
		return nil, err
	}
	if answer.Document == nil {
		return nil, errors.New("failed to decode the job's document: document is missing")
	}
	return answer.Document, nil
}
