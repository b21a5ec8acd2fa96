package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hutong/internal/doctor"
	"hutong/internal/party"
)

func newDoctorCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a party's configuration and surroundings, and say how to mend what is wrong",
		Long: "Checks folders, Temporal, database, storage, Docker, addresses and partners, whether the party runs or not.\n" +
			"Run it as the party's user, on the party's machine. The exit status is 1 if a check failed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var found []doctor.Check
			if cfg, err := party.Load(file, os.Environ()); err != nil {
				found = []doctor.Check{{Name: "configuration", State: doctor.Failed, Detail: strings.ReplaceAll(err.Error(), "\n", "; "),
					Fix: "mend the file or the variable; nothing else was checked"}}
			} else {
				found = []doctor.Check{{Name: "configuration", State: doctor.OK, Detail: "is valid, node " + cfg.NodeID}}
				if file != "" {
					found = append(found, doctor.Private("configuration file", file))
				}
				found = append(found, doctor.Examine(cmd.Context(), cfg)...)
			}
			if asJSON {
				data, err := json.Marshal(found)
				if err != nil {
					return err
				}
				if err := printJSON(cmd.OutOrStdout(), data); err != nil {
					return err
				}
			} else {
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				for _, c := range found {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", c.State, c.Name, c.Detail)
					if c.Fix != "" {
						_, _ = fmt.Fprintf(w, "\t\t-> %s\n", c.Fix)
					}
				}
				if err := w.Flush(); err != nil {
					return err
				}
			}
			for _, c := range found {
				if c.State == doctor.Failed {
					return errSaid
				}
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the checks as JSON")
	return cmd
}
