package main

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hutong/internal/doctor"
	"hutong/internal/party"
)

func newDoctorCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a party's configuration and environment, and suggest fixes",
		Long: "Checks folders, Temporal, the database, the storage, Docker, addresses and partners. The\n" +
			"party need not run. Run it as the party's user on the party's machine. The exit status\n" +
			"is 1 if a check failed.",
		Example: "  hutong doctor -c party.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var found []doctor.Check
			if cfg, err := party.Load(file, os.Environ()); err != nil {
				found = []doctor.Check{{Name: "configuration", State: doctor.Failed,
					Detail: strings.ReplaceAll(err.Error(), "\n", "; "),
					Fix: "correct the file or the environment variable, then run this again: no other " +
						"check was made"}}
			} else {
				found = []doctor.Check{{Name: "configuration", State: doctor.OK,
					Detail: "valid, node id " + cfg.NodeID}}
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
				var rows [][]string
				for _, c := range found {
					rows = append(rows, []string{string(c.State), c.Name, c.Detail})
					if c.Fix != "" {
						rows = append(rows, []string{"", "", "-> " + c.Fix})
					}
				}
				if err := printTable(cmd.OutOrStdout(), rows); err != nil {
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
