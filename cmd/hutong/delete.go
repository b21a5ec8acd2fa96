package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

// datasetArgs accepts the name of a dataset: NAMESPACE NAME or NAMESPACE#NAME.
func datasetArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && strings.Contains(args[0], "#") {
		return nil
	}
	return exactly("NAMESPACE", "NAME")(cmd, args)
}

// datasetOf returns the dataset that arguments name; see datasetArgs.
func datasetOf(args []string) bfia.Address {
	if len(args) == 2 {
		return bfia.Address{Namespace: args[0], Name: args[1]}
	}
	namespace, name, _ := strings.Cut(args[0], "#")
	return bfia.Address{Namespace: namespace, Name: name}
}

func newDataDelete(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAMESPACE NAME", Short: "Delete a dataset",
		Long: "Deletes a dataset with all its generations, from the database and the storage. The party\n" +
			"refuses it while an unfinished job reads the dataset. NAMESPACE#NAME names it, too.",
		Example: "  hutong data delete demo breast_guest\n  hutong data delete 'demo#breast_guest'",
		Args:    datasetArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			address := datasetOf(args)
			if _, err := c.post(cmd.Context(), bfia.PathDataDelete, address, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "dataset %s deleted\n", address.String())
			return err
		},
	}
}

func newProviderDelete(c *client) *cobra.Command {
	var filter providerFilter
	var force bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a provider",
		Long: "Deletes all versions of a provider on all devices. NAME:VERSION@DEVICE, --version and\n" +
			"--device restrict what is deleted. The party refuses it while an unfinished job uses the\n" +
			"provider. With --force such jobs run on with what was registered when they were created.",
		Example: "  hutong provider delete hutong --version 1.0.0\n" +
			"  hutong provider delete hutong:1.0.0@docker --force",
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := filter.setName(args[0]); err != nil {
				return err
			}
			request := map[string]any{}
			for name, value := range filter.values() {
				request[name] = value
			}
			if force {
				request["force"] = true
			}
			var data struct {
				Count int `json:"count"`
			}
			_, err := c.post(cmd.Context(), bfia.PathProviderDelete, request, &data)
			var no *refused
			if errors.As(err, &no) && no.code == bfia.CodeNotFound {
				return c.noProvider(cmd.Context(), args[0], filter.name)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "provider %s: %d deleted\n", args[0], data.Count)
			return err
		},
	}
	filter.versionFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "delete it although unfinished jobs use it")
	return cmd
}

// setName sets what an argument of the form name:version@device names. Flags win.
func (f *providerFilter) setName(full string) error {
	named, err := bfia.ParseProviderName(full)
	if err != nil {
		return err
	}
	f.name = named.Name
	f.version, f.device = valueOr(f.version, named.Version), valueOr(f.device, string(named.Device))
	return nil
}

func newJobDelete(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID...", Short: "Delete ended jobs at this party now, instead of after their retention",
		Long: "Deletes ended jobs at this party: their outputs, logs and records, and their workflows in\n" +
			"Temporal. Other parties keep theirs. The party refuses a job that has not ended, and one\n" +
			"whose outputs another job reuses, unless that is deleted, too.",
		Example: "  hutong job delete 202601021200000000001",
		Args:    atLeastOne("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			refusals := map[string]error{}
			for left := args; len(left) > 0; { // a job that reuses another's outputs goes first
				var again []string
				for _, id := range left {
					err := c.deleteJob(cmd.Context(), id)
					var no *refused
					if errors.As(err, &no) && no.code == bfia.CodeConflict {
						refusals[id] = err
						again = append(again, id)
						continue
					}
					if err != nil {
						return err
					}
					delete(refusals, id)
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "job %s deleted\n", id); err != nil {
						return err
					}
				}
				if len(again) == len(left) {
					break
				}
				left = again
			}
			var failed []error
			for err := range maps.Values(refusals) {
				failed = append(failed, err)
			}
			return errors.Join(failed...)
		},
	}
}

func (c *client) deleteJob(ctx context.Context, id string) error {
	_, err := c.post(ctx, bfia.PathJobDelete, bfia.JobRef{JobID: id}, nil)
	var no *refused
	if !errors.As(err, &no) || no.code != bfia.CodeNotFound {
		return err
	}
	whole, ambiguous := c.completeJobID(ctx, id)
	if ambiguous != nil {
		return ambiguous
	}
	if whole == "" || whole == id {
		return err
	}
	_, err = c.post(ctx, bfia.PathJobDelete, bfia.JobRef{JobID: whole}, nil)
	return err
}
