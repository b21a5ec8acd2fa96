package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobRehearse(c *client) *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "rehearse [FILE]",
		Short: "Run a job on synthetic rows at all parties, before real data is touched",
		Long: "Submits a job whose tasks read synthetic rows instead of the datasets, and prints its id.\n" +
			"Each party makes the rows itself, with the columns, types, id and label of its dataset.\n" +
			"So parameters, routes, images and resources are tried in minutes, and no real row is\n" +
			"read. A party whose software makes no such rows refuses the job. Grants and approvals\n" +
			"are as for the job itself. The results mean nothing.",
		Example: "  hutong job rehearse job.json --watch\n" +
			"  hutong job rehearse -f job.json --dry-run",
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			document, file, err := s.read(cmd, args)
			if err != nil {
				return err
			}
			if err := bfia.Rehearse(document); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return c.submitDocument(cmd, document, file, s)
		},
	}
	cmd.Flags().StringVarP(&s.file, "file", "f", "", "the job (JSON); - reads standard input")
	s.flags(cmd)
	return cmd
}
