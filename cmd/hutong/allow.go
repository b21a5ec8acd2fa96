package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newProviderAllow(c *client) *cobra.Command {
	var filter providerFilter
	cmd := &cobra.Command{
		Use:   "allow NAME:VERSION EXCEPTIONS",
		Short: "Approve a provider's exceptions from the container profile",
		Long: "Approves what a provider asks for in metadata.allow, for jobs that are created from now on:\n" +
			"root (the user of its image, instead of an unprivileged one), writable (a writable root file\n" +
			"system), or both, separated by a comma. none takes all approvals away, as registering the\n" +
			"provider again does. 'hutong provider show' prints what it asks for and what is allowed.",
		Example: "  hutong provider allow fate:2.2.0 root,writable\n" +
			"  hutong provider allow fate:2.2.0@docker none",
		Args: exactly("NAME:VERSION", "EXCEPTIONS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := filter.setName(args[0]); err != nil {
				return err
			}
			if filter.version == "" {
				return fmt.Errorf("%s names no version: use NAME:VERSION or NAME:VERSION@DEVICE", args[0])
			}
			allow, err := bfia.ParseExceptions(args[1])
			if err != nil {
				return err
			}
			request := map[string]any{"allow": allow}
			for name, value := range filter.values() {
				request[name] = value
			}
			_, err = c.post(cmd.Context(), bfia.PathProviderAllow, request, nil)
			var no *refused
			if errors.As(err, &no) && no.code == bfia.CodeNotFound {
				return c.noProvider(cmd.Context(), args[0], filter.name)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "allowed: %s\n", allow)
			return err
		},
	}
	cmd.Flags().StringVar(&filter.device, "device", "", "its device: docker or k8s")
	return cmd
}
