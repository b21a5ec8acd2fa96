package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

// takesJobID reports whether the first argument of a command is a job id.
func takesJobID(cmd *cobra.Command) bool {
	words := strings.Fields(cmd.Use)
	return len(words) > 1 && slices.Contains([]string{"ID", "ID...", "JOB", "JOB_ID"}, words[1])
}

// acceptPrefixes lets every job command take the beginning of a job id. It runs the command with the argument
// as given, so that a whole id costs no request. Only if the party does not know that job, it looks for a job
// whose id begins with the argument.
func acceptPrefixes(cmd *cobra.Command, c *client) {
	for _, sub := range cmd.Commands() {
		acceptPrefixes(sub, c)
	}
	if !takesJobID(cmd) || cmd.RunE == nil {
		return
	}
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		var no *refused
		if !errors.As(err, &no) || no.code != bfia.CodeNotFound || len(args) == 0 || args[0] == "" {
			return err
		}
		whole, ambiguous := c.completeJobID(cmd.Context(), args[0])
		if ambiguous != nil {
			return ambiguous
		}
		if whole == "" || whole == args[0] {
			return err
		}
		return run(cmd, append([]string{whole}, args[1:]...))
	}
}

// maxAmbiguous is the number of jobs that the error of an ambiguous prefix lists.
const maxAmbiguous = 5

// completeJobID returns the id of the only job whose id begins with a prefix, or "" if there is none. Several
// are an error.
func (c *client) completeJobID(ctx context.Context, prefix string) (string, error) {
	ids, err := c.jobIDs(ctx, prefix, maxAmbiguous+1)
	switch {
	case err != nil || len(ids) == 0:
		return "", nil // the party's answer to the id as given says more
	case slices.Contains(ids, prefix):
		return prefix, nil
	case len(ids) == 1:
		return ids[0], nil
	}
	more := ""
	if len(ids) > maxAmbiguous {
		ids, more = ids[:maxAmbiguous], ", ..."
	}
	return "", fmt.Errorf("several jobs begin with %s: %s%s; give more of the id", prefix,
		strings.Join(ids, ", "), more)
}

// jobIDs returns the ids of the newest jobs whose ids begin with a prefix.
func (c *client) jobIDs(ctx context.Context, prefix string, limit int) ([]string, error) {
	jobs, err := c.jobsBeginning(ctx, prefix, limit)
	var ids []string
	for _, j := range jobs {
		ids = append(ids, j.JobID)
	}
	return ids, err
}

func (c *client) jobsBeginning(ctx context.Context, prefix string, limit int) ([]bfia.JobSummary, error) {
	var list bfia.JobList
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if prefix != "" {
		query.Set("prefix", prefix)
	}
	if err := c.get(ctx, bfia.PathPlatformJobList, query, &list); err != nil {
		return nil, err
	}
	// a party may ignore the parameter
	jobs := slices.DeleteFunc(summaries(list), func(j bfia.JobSummary) bool {
		return !strings.HasPrefix(j.JobID, prefix)
	})
	return jobs, nil
}
