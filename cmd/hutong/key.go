package main

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/internal/codec"
)

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make and choose the keys that encrypt what a party stores in Temporal",
		Args:  subcommandsOnly(false),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyCreateCommand(), newKeyUseCommand())
	return cmd
}

func newKeyCreateCommand() *cobra.Command {
	var id, algorithm string
	var use bool
	cmd := &cobra.Command{
		Use:   "create DIR",
		Short: "Make a key in a folder of keys, temporal.encryption.keys_dir",
		Long: "Makes a random key in a folder of keys, which only its owner can read. Copy the file to the\n" +
			"folders of all the party's machines, then choose the key with 'hutong key use'. Keep old\n" +
			"keys as long as Temporal keeps histories: what they encrypted can't be read without them.",
		Example: "  hutong key create --use /etc/hutong/keys\n" +
			"  hutong key create --algorithm sm4-gcm /etc/hutong/keys",
		Args: exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if id == "" {
				id = time.Now().UTC().Format("20060102") + "-" + strings.ToLower(rand.Text()[:6])
			}
			path, err := codec.CreateKey(args[0], id, codec.Algorithm(algorithm))
			if err != nil {
				return err
			}
			if use {
				if err := codec.UseKey(args[0], id); err != nil {
					return err
				}
			}
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the key's id, which Temporal stores (default: the date and a random part)")
	cmd.Flags().BoolVar(&use, "use", false, "encrypt with it from now on")
	choiceFlag(cmd, &algorithm, "algorithm", "", string(codec.AES256GCM), "the key's algorithm",
		string(codec.AES256GCM), string(codec.SM4GCM))
	return cmd
}

func newKeyUseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "use ID DIR",
		Short: "Choose the key to encrypt with",
		Long: "Chooses the key of a folder with which the party's processes encrypt from now on. They\n" +
			"notice it within a second, and still decrypt with the other keys of the folder.",
		Example: "  hutong key use 20261129-k3x9ab /etc/hutong/keys",
		Args:    exactly("ID", "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			return codec.UseKey(args[1], args[0])
		},
	}
}
