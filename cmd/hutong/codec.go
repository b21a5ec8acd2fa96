package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"hutong/internal/party"
)

func newCodecCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "codec",
		Short: "Decrypt for Temporal's web UI what a party stores in Temporal",
		Long: "Serves the codec endpoint of Temporal's web UI and command line at temporal.codec.listen.\n" +
			"It decrypts with the keys of temporal.encryption, for clients with the role viewer.",
		Example: "  hutong codec -c party.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := party.Load(file, os.Environ())
			if err != nil {
				return err
			}
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			p, err := party.StartCodec(ctx, cfg, partyLogger(cfg, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "codec of party %s is ready at %s\n", cfg.NodeID,
				cfg.Temporal.Codec.Listen)
			err = wait(ctx, p.Failed())
			stopWithin(p.Stop)
			return err
		},
	}
	configFlag(cmd, &file)
	return cmd
}
