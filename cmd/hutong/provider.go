package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newProviderCommand(c *client) *cobra.Command {
	return group("provider", "Register, list and delete providers",
		newProviderRegister(c), newProviderList(c), newProviderShow(c), newProviderAllow(c),
		newProviderDelete(c))
}

func newProviderRegister(c *client) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "register [FILE]", Short: "Register or replace a provider, or register one component",
		Long: "Registers a provider with its components and replaces those registered before. A\n" +
			"document in the specification's format (imageUrl and component_info) registers one\n" +
			"component.",
		Example: "  hutong provider register providers/reference/provider.json\n" +
			"  generate-registration | hutong provider register -f -",
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := fileArgument(args, "-f", file)
			if err != nil {
				return err
			}
			document, err := readFile(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			path := bfia.PathProviderRegister
			if _, one := document["component_info"]; one {
				path = bfia.PathComponentRegister
			}
			message, err := c.post(cmd.Context(), path, document, nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), message)
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the registration (JSON); - reads standard input")
	return cmd
}

// providerFilter holds the flags that select providers.
type providerFilter struct{ name, version, device string }

func (f *providerFilter) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "name", "", "the provider's name")
	f.versionFlags(cmd)
}

func (f *providerFilter) versionFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.version, "version", "", "its version")
	cmd.Flags().StringVar(&f.device, "device", "", "its device: docker, process or k8s")
}

func (f *providerFilter) values() map[string]string {
	values := map[string]string{"name": f.name, "version": f.version, "device": f.device}
	maps.DeleteFunc(values, func(_, value string) bool { return value == "" })
	return values
}

func newProviderList(c *client) *cobra.Command {
	var filter providerFilter
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List providers and their components", Args: noArguments,
		Example: "  hutong provider list -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for name, value := range filter.values() {
				query.Set(name, value)
			}
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathProviderQuery, query, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var providers []struct {
				Name        string                     `json:"name"`
				Version     string                     `json:"version"`
				Device      string                     `json:"device"`
				Description map[string]json.RawMessage `json:"components_description"`
				Metadata    bfia.Metadata              `json:"metadata"`
				Allowed     bfia.Exceptions            `json:"allowed"`
			}
			if err := json.Unmarshal(data, &providers); err != nil {
				return fmt.Errorf("failed to decode the list of providers: %w", err)
			}
			rows := [][]string{{"NAME", "VERSION", "DEVICE", "COMPONENTS"}}
			if c.wide {
				rows[0] = append(rows[0], "RUNS", "ASKS FOR", "ALLOWED")
			}
			for _, p := range providers {
				components := strings.Join(slices.Sorted(maps.Keys(p.Description)), ", ")
				row := []string{p.Name, p.Version, p.Device, components}
				if c.wide {
					row = append(row, valueOr(p.Metadata.Image, strings.Join(p.Metadata.Command, " ")),
						p.Metadata.Allow.String(), p.Allowed.String())
				}
				rows = append(rows, row)
			}
			return printList(cmd, "providers", rows)
		},
	}
	filter.flags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print the data of the response as JSON")
}
