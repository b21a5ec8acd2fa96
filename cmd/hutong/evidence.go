package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/evidence"
)

func newJobEvidence(c *client) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "evidence ID", Short: "Write a signed archive of what this party attests of an ended job",
		Long: "Writes a zip archive with the job's document, the components and image digests, approvals, states\n" +
			"with times, digests of inputs and outputs, the bytes exchanged with partners, and the audit entries,\n" +
			"signed with the party's key. It holds no rows of data. Keep it before the retention of the job ends.\n" +
			"'hutong evidence verify' checks it. Requires the role auditor.",
		Example: "  hutong job evidence 202601021200000000001\n" +
			"  hutong job evidence 202601021200000000001 -o bank-a.zip",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			body, err := c.evidence(ctx, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			if out == "-" {
				_, err := io.Copy(cmd.OutOrStdout(), body)
				return explainTransfer(err)
			}
			if out == "" {
				out = "evidence-" + args[0] + ".zip"
			}
			if err := writeAtomically(out, body); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "wrote", out)
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the file to write, or - (default: evidence-ID.zip)")
	return cmd
}

// evidence opens the archive of a job. The party reads all inputs and outputs for it, which may take long.
func (c *client) evidence(ctx context.Context, jobID string) (io.ReadCloser, error) {
	query := url.Values{"job_id": {jobID}}
	request, err := c.request(ctx, http.MethodGet, bfia.PathJobEvidence+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if err := c.authorize(request); err != nil {
		return nil, err
	}
	response, err := c.roundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return nil, c.noAnswer(err)
	}
	if _, err = openEnvelope(response, answer); err == nil {
		err = errors.New("the party did not answer with an archive")
	}
	return nil, explainRefusal(request, err)
}

func newEvidenceCommand() *cobra.Command {
	return group("evidence", "Check archives of evidence about jobs", newEvidenceVerify())
}

func newEvidenceVerify() *cobra.Command {
	var ca string
	var pins []string
	cmd := &cobra.Command{
		Use: "verify A.zip [B.zip]", Short: "Check an archive of evidence, or compare those of two parties",
		Long: "Checks the signature of an archive, and that nothing in it was altered or is missing. With the\n" +
			"archive of another party it compares both: document, tasks and states, and the bytes that one has\n" +
			"sent with those that the other has received. It needs no party. The exit status is 0 only if all\n" +
			"agrees.\n\n" +
			"Who signed is proved by --ca or --pin. Without them compare the printed key with the party, as by\n" +
			"telephone.",
		Example: "  hutong evidence verify bank-a.zip\n" +
			"  hutong evidence verify bank-a.zip bank-b.zip --ca authorities.pem",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			roots, pinned, err := trusted(ca, pins)
			if err != nil {
				return err
			}
			var archives []*evidence.Archive
			for _, name := range args {
				a, err := readEvidence(name)
				if err == nil {
					err = a.CheckCertificate(roots, pinned)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				archives = append(archives, a)
				proved := roots != nil || pinned != nil
				if err := printEvidence(cmd.OutOrStdout(), name, a, proved); err != nil {
					return err
				}
			}
			if len(archives) < 2 {
				return nil
			}
			return printComparison(cmd.OutOrStdout(), evidence.Compare(archives[0], archives[1]))
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "", "PEM file of the authorities of the parties' certificates")
	cmd.Flags().
		StringArrayVar(&pins, "pin", nil, "SHA-256 of a party's public key; may be given several times")
	return cmd
}

// trusted reads the authorities and pins of the command line.
func trusted(ca string, pins []string) (*x509.CertPool, []certs.Pin, error) {
	var roots *x509.CertPool
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, nil, fmt.Errorf("--ca: %w", err)
		}
		list, err := certs.ParseCertificates(text)
		if err != nil {
			return nil, nil, usagef("--ca: %s: %w", ca, err)
		}
		roots = x509.NewCertPool()
		for _, cert := range list {
			roots.AddCert(cert)
		}
	}
	var parsed []certs.Pin
	for _, text := range pins {
		pin, err := certs.ParsePin(text)
		if err != nil {
			return nil, nil, usagef("--pin: %w", err)
		}
		parsed = append(parsed, pin)
	}
	return roots, parsed, nil
}

func readEvidence(name string) (*evidence.Archive, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return evidence.Read(file, info.Size())
}

// printEvidence prints what an archive attests. proved says that its certificate was checked.
func printEvidence(w io.Writer, name string, a *evidence.Archive, proved bool) error {
	f := &a.Facts
	signer := "which you must compare with the party"
	if proved {
		signer = "trusted"
	}
	left, received, missing := int64(0), int64(0), 0
	for _, t := range f.Transfers {
		left += t.Sent + t.Unconfirmed
		received += t.Received
	}
	for _, d := range f.Data {
		if d.Missing {
			missing++
		}
	}
	lines := []string{
		fmt.Sprintf("%s: the signature is valid, nothing was altered", name),
		fmt.Sprintf(
			"  job %s at %s, as %v: %s %s",
			plain(f.JobID),
			plain(f.NodeID),
			f.Roles,
			f.State,
			f.Outcome,
		),
		fmt.Sprintf("  signed by the key %s, %s", certs.PinOf(a.Chain[0]), signer),
		fmt.Sprintf("  document SHA-256 %s", f.DocumentSHA256),
		fmt.Sprintf(
			"  %d parts, %d inputs and outputs, %d audit entries, head of the trail %s",
			len(f.Parts),
			len(f.Data),
			len(a.Trail),
			f.TrailHead,
		),
		fmt.Sprintf("  %d bytes left to partners, %d were received", left, received),
	}
	if b := f.TrailArchived; b != nil {
		lines = append(lines, fmt.Sprintf("  audit entries and approvals may be missing: the party has archived its "+
			"entries up to %d (%s); ask it for those about the job", b.Seq, clock(&b.Time)))
	}
	if missing > 0 {
		lines = append(lines, fmt.Sprintf("  %d inputs or outputs had been deleted", missing))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// printComparison prints what agrees and what differs. It fails if anything differs.
func printComparison(w io.Writer, findings []evidence.Finding) error {
	differ := 0
	for _, f := range findings {
		mark := "agree "
		if !f.Agrees {
			mark = "DIFFER"
			differ++
		}
		if _, err := fmt.Fprintln(w, mark, plain(f.Text)); err != nil {
			return err
		}
	}
	if differ > 0 {
		return fmt.Errorf("the archives differ at %d of %d points", differ, len(findings))
	}
	return nil
}
