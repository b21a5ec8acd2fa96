package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

// jobUse is a job that uses a provider or reads a dataset.
type jobUse struct {
	JobID     string        `json:"job_id"`
	State     bfia.JobState `json:"state"`
	CreatedAt time.Time     `json:"created_at"`
	EndedAt   *time.Time    `json:"ended_at"`
}

// printUses prints the jobs that use something, or that none does.
func printUses(w io.Writer, uses []jobUse) error {
	if len(uses) == 0 {
		_, err := fmt.Fprintln(w, "\nNo job at this party uses it.")
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows := [][]string{{"USED BY JOB", "STATE", "CREATED", "ENDED"}}
	for _, u := range uses {
		rows = append(rows, []string{u.JobID, string(u.State), clock(&u.CreatedAt), clock(u.EndedAt)})
	}
	return printTable(w, rows)
}

// noProvider returns the error of a provider that is not registered.
func (c *client) noProvider(ctx context.Context, full, name string) error {
	names := completer{c}.providers("name")(ctx, nil)
	return fmt.Errorf("no provider %s is registered; 'hutong provider list' shows all%s", full,
		bfia.DidYouMean(name, names))
}

func newProviderShow(c *client) *cobra.Command {
	var filter providerFilter
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a provider, its components, and the jobs that use it",
		Long: "Shows the versions of a provider with their components, and the unfinished and recent jobs\n" +
			"that use them. NAME:VERSION@DEVICE, --version and --device select one.",
		Example: "  hutong provider show hutong\n  hutong provider show hutong:1.0.0@docker --json",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := filter.setName(args[0]); err != nil {
				return err
			}
			query := url.Values{"jobs": {"true"}}
			for name, value := range filter.values() {
				query.Set(name, value)
			}
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathProviderQuery, query, &data); err != nil {
				return err
			}
			var providers []struct {
				Provider    string                     `json:"provider_name"`
				Metadata    json.RawMessage            `json:"metadata"`
				Allowed     bfia.Exceptions            `json:"allowed"`
				Description map[string]json.RawMessage `json:"components_description"`
				Jobs        []jobUse                   `json:"jobs"`
				Images      []bfia.ProviderImage       `json:"images"`
			}
			if err := json.Unmarshal(data, &providers); err != nil {
				return fmt.Errorf("failed to decode the providers: %w", err)
			}
			switch {
			case len(providers) == 0:
				return c.noProvider(cmd.Context(), args[0], filter.name)
			case asJSON:
				return printJSON(cmd.OutOrStdout(), data)
			}
			for i, p := range providers {
				between := ""
				if i > 0 {
					between = "\n"
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(),
					"%sprovider    %s\nruns        %s\nallowed     %s\ncomponents  %s\n",
					between, p.Provider, p.Metadata, p.Allowed,
					strings.Join(slices.Sorted(maps.Keys(p.Description)), ", ")); err != nil {
					return err
				}
				if err := printImages(cmd.OutOrStdout(), p.Images); err != nil {
					return err
				}
				if err := printUses(cmd.OutOrStdout(), p.Jobs); err != nil {
					return err
				}
			}
			return nil
		},
	}
	filter.versionFlags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// printImages prints the ids of a provider's images, and which runners resolved them.
func printImages(w io.Writer, images []bfia.ProviderImage) error {
	for _, image := range images {
		ids := "not resolved yet"
		runners := map[string][]string{}
		for _, runner := range slices.Sorted(maps.Keys(image.IDs)) {
			runners[image.IDs[runner]] = append(runners[image.IDs[runner]], runner)
		}
		var texts []string
		for _, id := range slices.Sorted(maps.Keys(runners)) {
			texts = append(texts, id+" on "+strings.Join(runners[id], ", "))
		}
		if len(texts) > 0 {
			ids = strings.Join(texts, "; ")
		}
		if _, err := fmt.Fprintf(w, "image       %s: %s\n", plain(image.Reference), plain(ids)); err != nil {
			return err
		}
	}
	return nil
}

func newDataShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show NAMESPACE NAME", Short: "Show a dataset and the jobs that read it",
		Long: "Shows a dataset with its columns, and the unfinished and recent jobs that read it.\n" +
			"NAMESPACE#NAME names it, too.",
		Example: "  hutong data show demo breast_guest",
		Args:    datasetArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			address := datasetOf(args)
			query := url.Values{"namespace": {address.Namespace}, "name": {address.Name}, "jobs": {"true"}}
			var found []json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathDataQuery, query, &found); err != nil {
				return err
			}
			if len(found) == 0 {
				var names []string
				for _, t := range (completer{c}).tables(cmd.Context()) {
					names = append(names, t.String())
				}
				return fmt.Errorf("this party has no dataset %s; 'hutong data list' shows all%s",
					address.String(), bfia.DidYouMean(address.String(), names))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), found[0])
			}
			var t struct {
				Count      int64 `json:"count"`
				Partitions int   `json:"partitions"`
				Bytes      int64 `json:"bytes"`
				Columns    []struct{ Name, Type string }
				Updated    int64    `json:"update_time"` // Unix milliseconds
				Jobs       []jobUse `json:"jobs"`
			}
			if err := json.Unmarshal(found[0], &t); err != nil {
				return fmt.Errorf("failed to decode the dataset: %w", err)
			}
			var columns []string
			for _, column := range t.Columns {
				columns = append(columns, column.Name+" "+column.Type)
			}
			updated := time.UnixMilli(t.Updated)
			if _, err := fmt.Fprintf(cmd.OutOrStdout(),
				"dataset     %s\nrows        %s\npartitions  %d\nsize        %s\nupdated     %s\ncolumns     %s\n",
				address.String(), strconv.FormatInt(t.Count,
					10), t.Partitions, size(t.Bytes), clock(&updated),
				strings.Join(columns, ", ")); err != nil {
				return err
			}
			return printUses(cmd.OutOrStdout(), t.Jobs)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// namedInErrors bounds the names that the error of an unknown one lists.
const namedInErrors = 10

// showNamed prints the document of a list that has a name in a field, or returns an error with the names that
// exist.
func showNamed(cmd *cobra.Command, asJSON bool, kind, field, name string, list []json.RawMessage) error {
	var names []string
	for _, document := range list {
		var fields map[string]json.RawMessage
		var found string
		if err := json.Unmarshal(document, &fields); err != nil {
			return fmt.Errorf("failed to decode the list of %ss: %w", kind, err)
		}
		if err := json.Unmarshal(fields[field], &found); err != nil {
			return fmt.Errorf("failed to decode the %s of a %s: %w", field, kind, err)
		}
		if found != name {
			names = append(names, found)
			continue
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), document)
		}
		return printFields(cmd.OutOrStdout(), document)
	}
	existing := "none"
	if len(names) > 0 {
		existing = strings.Join(names[:min(len(names), namedInErrors)], ", ")
	}
	if len(names) > namedInErrors {
		existing += ", …"
	}
	return fmt.Errorf("this party has no %s %q; it has %s%s", kind, name, existing,
		bfia.DidYouMean(name, names))
}
