package main

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/party"
)

func newCertCommand() *cobra.Command {
	return group("cert", "Make and show the certificate by which partners know this party",
		newCertInit(), newCertRequest(), newCertShow())
}

// hostsFlag adds the flag for further names of a certificate.
func hostsFlag(cmd *cobra.Command, hosts *[]string) {
	cmd.Flags().StringSliceVar(hosts, "host", nil,
		"further DNS names and addresses in the certificate, separated by commas")
}

func newCertInit() *cobra.Command {
	var hosts []string
	var days int
	cmd := &cobra.Command{
		Use: "init NODE FILE", Short: "Make a key and a certificate of its own for a node",
		Args: exactly("NODE", "FILE"),
		Long: "Makes a key and a certificate that no authority signs, in one file for\n" +
			"partners.tls.cert_file and key_file. Partners know it by its key: 'hutong partner'\n" +
			"exchanges it, or routes.NODE.tls.spki_sha256 names it. If the file exists, its key stays,\n" +
			"and the certificate is renewed: partners need no change. The party reads it again at once.",
		Example: "  hutong cert init JG0100001100000010 /etc/hutong/node.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := bfia.CheckID("NODE", args[0]); err != nil {
				return usagef("%v", err)
			}
			if days < 1 || days > 3650 {
				return usagef("--days: must be from 1 to 3650, but is %d", days)
			}
			key, err := keyOf(args[1])
			if err != nil {
				return err
			}
			text, err := certs.SelfSignedFor(key, certs.Leaf{Node: args[0], Hosts: hosts,
				NotAfter: time.Now().Add(time.Duration(days) * 24 * time.Hour)})
			if err != nil {
				return err
			}
			if err := certs.WriteFile(args[1], text); err != nil {
				return err
			}
			return showCertificates(cmd, text)
		},
	}
	hostsFlag(cmd, &hosts)
	cmd.Flags().IntVar(&days, "days", 397, "how long the certificate is valid")
	return cmd
}

// keyOf returns the key in a file, or a new one if the file does not exist.
func keyOf(file string) (crypto.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return certs.NewKey()
	}
	if err != nil {
		return nil, fmt.Errorf("failed to read the key: %w", err)
	}
	key, err := certs.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("failed to read the key in %s, which is not replaced: %w", file, err)
	}
	return key, nil
}

func newCertRequest() *cobra.Command {
	var hosts []string
	cmd := &cobra.Command{
		Use: "csr NODE KEY-FILE", Short: "Print a request for a certificate, for an authority to sign",
		Args: exactly("NODE", "KEY-FILE"),
		Long: "Prints a certificate signing request (PKCS #10) for a node, with the names hutong://NODE\n" +
			"and NODE. It makes the key if the file does not exist. The authority must keep the names,\n" +
			"and allow client and server authentication.",
		Example: "  hutong cert csr JG0100001100000010 /etc/hutong/node.key > node.csr",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := bfia.CheckID("NODE", args[0]); err != nil {
				return usagef("%v", err)
			}
			key, err := keyOf(args[1])
			if err != nil {
				return err
			}
			if _, err := os.Stat(args[1]); errors.Is(err, fs.ErrNotExist) {
				text, err := certs.EncodeKey(key)
				if err != nil {
					return err
				}
				if err := certs.WriteFile(args[1], text); err != nil {
					return err
				}
			}
			text, err := certs.Request(certs.Leaf{Node: args[0], Hosts: hosts}, key)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	hostsFlag(cmd, &hosts)
	return cmd
}

func newCertShow() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "show [FILE]", Short: "Show certificates with their names, end and fingerprint",
		Args: cobra.MaximumNArgs(1),
		Long: "Shows the certificates of a file, or that of the party's configuration. The fingerprint\n" +
			"is the SHA-256 of the key: read it to a partner by telephone, in groups.",
		Example: "  hutong cert show /etc/hutong/node.pem\n  hutong cert show -c party.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := strings.Join(args, "")
			if path == "" {
				cfg, err := party.Load(file, os.Environ())
				if err != nil {
					return err
				}
				if path = cfg.Partners.TLS.CertFile; path == "" {
					return errors.New(
						"the configuration names no certificate: set partners.tls.cert_file, or name a " +
							"file",
					)
				}
			}
			text, err := os.ReadFile(filepath.Clean(path))
			if err != nil {
				return fmt.Errorf("failed to read the certificate: %w", err)
			}
			return showCertificates(cmd, text)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func showCertificates(cmd *cobra.Command, text []byte) error {
	all, err := certs.ParseCertificates(text)
	if err != nil {
		return fmt.Errorf("failed to read the certificate: %w", err)
	}
	pair, pairErr := tls.X509KeyPair(text, text)
	for _, cert := range all {
		rows := [][]string{
			{"subject", plain(cert.Subject.String())}, {"names", plain(certs.Names(cert))},
			{"signed by", plain(cert.Issuer.String())},
			{"valid", clock(&cert.NotBefore) + " to " + clock(&cert.NotAfter)},
			{"fingerprint", certs.PinOf(cert).String()}}
		if pairErr == nil && cert.Equal(pair.Leaf) {
			rows = append(rows, []string{"key", "in the file"})
		}
		if err := printTable(cmd.OutOrStdout(), rows); err != nil {
			return err
		}
	}
	return nil
}
