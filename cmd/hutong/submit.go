package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

// maxSubmissions limits how often a job is sent while the response gets lost. All requests carry the same job
// id, so that the party creates the job once.
const maxSubmissions = 4

// submission holds the flags of the commands that submit a job.
type submission struct {
	file, project string
	follow, check bool
}

func (s *submission) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.follow, "watch", false, "watch the job until it has ended")
	cmd.Flags().BoolVar(&s.check, "dry-run", false,
		"check the job at this party and its partners, and create nothing")
	projectFlag(cmd, &s.project)
	cmd.MarkFlagsMutuallyExclusive("watch", "dry-run")
}

// read reads the job that the arguments or the flag -f name, and returns it with the name of its file.
func (s *submission) read(cmd *cobra.Command, args []string) (map[string]json.RawMessage, string, error) {
	file, err := fileArgument(args, "-f", s.file)
	if err != nil {
		return nil, "", err
	}
	document, err := readFile(file, cmd.InOrStdin())
	return document, file, err
}

func newJobSubmit(c *client) *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "submit [FILE]",
		Short: "Submit a job and print its id",
		Long: "Submits a job, which is a JSON document with the fields dag and config, and prints its\n" +
			"id. The client generates the id if the document has none. A lost response is safe: the\n" +
			"client submits the same id again, and the party creates the job once. --watch then\n" +
			"watches the job like 'hutong job watch'. --dry-run only checks whether the parties would\n" +
			"accept the job, and points at fields without effect. README.md explains every field.",
		Example: "  hutong job submit job.json --watch\n" +
			"  hutong job submit job.json --dry-run\n" +
			"  generate-job | hutong job submit -f -",
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			document, file, err := s.read(cmd, args)
			if err != nil {
				return err
			}
			return c.submitDocument(cmd, document, file, s)
		},
	}
	cmd.Flags().StringVarP(&s.file, "file", "f", "", "the job (JSON); - reads standard input")
	s.flags(cmd)
	return cmd
}

// submitDocument submits or checks a job, and prints the warnings of the parties.
func (c *client) submitDocument(cmd *cobra.Command, document map[string]json.RawMessage, file string,
	s submission) error {
	jobID, err := ensureJobID(document)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if s.check {
		return c.checkJob(cmd, document, s.project)
	}
	jobID, warnings, err := c.submit(cmd.Context(), document, jobID, s.project)
	if err != nil {
		// The reason of a refusal is often a misspelt field.
		return errors.Join(printWarnings(cmd, bfia.UnknownFields(document)), err)
	}
	if err := printWarnings(cmd, warnings); err != nil {
		return err
	}
	if s.follow {
		return c.watch(cmd, jobID)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), jobID)
	return err
}

// checkJob prints what each party would do with a job. It fails if one would not accept it.
func (c *client) checkJob(cmd *cobra.Command, document map[string]json.RawMessage, project string) error {
	var check bfia.JobCheck
	if _, err := c.post(cmd.Context(), bfia.PathPlatformCheck+projectQuery(project), document,
		&check); err != nil {
		var no *refused
		if errors.As(err, &no) && no.status == http.StatusNotFound && no.code != bfia.CodeNotFound {
			err = errors.New("this party's software can't check a job before its creation")
		}
		return errors.Join(printWarnings(cmd, bfia.UnknownFields(document)), err)
	}
	if err := printWarnings(cmd, check.Warnings); err != nil {
		return err
	}
	accepted := true
	rows := [][]string{{"PARTY", "ACCEPTS", "REASON"}}
	for _, p := range check.Parties {
		if err := printWarnings(cmd, p.Warnings); err != nil {
			return err
		}
		answer := "unknown"
		if p.Accepts != nil {
			answer = map[bool]string{true: "yes", false: "no"}[*p.Accepts]
			accepted = accepted && *p.Accepts
		}
		rows = append(rows, []string{p.NodeID, answer, p.Reason})
	}
	if err := printTable(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	if !accepted {
		return errSaid
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "Nothing was created.")
	return err
}

func printWarnings(cmd *cobra.Command, warnings []bfia.Warning) error {
	for _, w := range warnings {
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "warning:", plain(w.String())); err != nil {
			return err
		}
	}
	return nil
}

// ensureJobID returns the document's job id, or adds a new one.
func ensureJobID(document map[string]json.RawMessage) (string, error) {
	if raw := document["job_id"]; raw != nil {
		var id string
		if err := json.Unmarshal(raw, &id); err != nil {
			return "", errors.New("job_id: must be a string")
		}
		if id != "" {
			return id, nil
		}
	}
	id := bfia.NewJobID(time.Now(), rand.IntN(10))
	document["job_id"], _ = json.Marshal(id) // a string always marshals
	return id, nil
}

// maxBusy bounds how long a job is sent again to a party that is busy.
const maxBusy = 2 * time.Minute

// submit sends a job until the party responds, and returns the job's id and the party's warnings. It does not
// retry when the connection is refused, because then the job was certainly not created. To a party that is
// busy it sends the job again when the party says so.
func (c *client) submit(ctx context.Context, document map[string]json.RawMessage,
	jobID, project string) (string, []bfia.Warning, error) {
	var created bfia.JobCreated
	began := time.Now()
	for try := 1; ; try++ {
		_, err := c.post(ctx, bfia.PathPlatformCreateAll+projectQuery(project), document, &created)
		var busy *refused
		if errors.As(err, &busy) && busy.status == http.StatusTooManyRequests && busy.after > 0 &&
			time.Since(began)+busy.after < maxBusy && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(busy.after):
			}
			try--
			continue
		}
		var lost *unanswered
		if err == nil {
			return valueOr(created.JobID, jobID), created.Warnings, nil
		}
		if !errors.As(err, &lost) || errors.Is(err, syscall.ECONNREFUSED) || lost.speaksHTTP() {
			return "", nil, err
		}
		if try == maxSubmissions || ctx.Err() != nil {
			return "", nil, fmt.Errorf(
				"%w; job %s may have been created: check it with 'hutong job status %s'",
				err,
				jobID,
				jobID,
			)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(try) * 200 * time.Millisecond):
		}
	}
}
