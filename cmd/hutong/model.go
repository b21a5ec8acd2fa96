package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/internal/certs"
)

func newModelCommand(c *client) *cobra.Command {
	return group("model", "List, keep, export, import and delete the models that jobs trained",
		newModelList(c), newModelShow(c), newModelKeep(c), newModelExport(c), newModelImport(c),
		newModelDelete(c))
}

func newModelList(c *client) *cobra.Command {
	var asJSON bool
	var job string
	cmd := &cobra.Command{
		Use: "list", Short: "List the models of this party", Args: noArguments,
		Long: "Lists the models that jobs trained at this party, and those that were imported. Each party\n" +
			"of a job has its own part. A model is removed with its job, unless it is kept.",
		Example: "  hutong model list\n  hutong model list --job 202601021200000000001",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if job != "" {
				query.Set("job_id", job)
			}
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathModelQuery, query, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var models []bfia.ModelView
			if err := json.Unmarshal(data, &models); err != nil {
				return fmt.Errorf("failed to decode the list of models: %w", err)
			}
			rows := [][]string{{"MODEL", "ROLE", "COMPONENT", "PROVIDER", "SIZE", "KEPT", "CREATED"}}
			if c.wide {
				rows[0] = append(rows[0], "DATASETS", "SHA256")
			}
			var projects []string
			for _, m := range models {
				projects = append(projects, m.Project)
				kept := map[bool]string{true: "yes", false: "no"}[m.Kept]
				row := []string{m.Model, m.Role, m.Component, m.Provider, size(m.Bytes), kept,
					clock(&m.CreatedAt)}
				if c.wide {
					row = append(row, strings.Join(m.Datasets, ", "), m.SHA256)
				}
				rows = append(rows, row)
			}
			return printList(cmd, "models", withProjects(rows, 1, projects))
		},
	}
	cmd.Flags().StringVar(&job, "job", "", "only the models of this job")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newModelShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show MODEL", Short: "Show what made a model, and the jobs that use it",
		Long: "Shows this party's parts of a model: the job and task that trained it, the component\n" +
			"with its image, the datasets with their generations, the parameters, the hash of its\n" +
			"content, the job's document, and the jobs that use it. " + modelNames,
		Example: "  hutong model show 202601021200000000001:boosting",
		Args:    exactly("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := c.model(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var data json.RawMessage
			query := url.Values{"model": {ref}}
			if err := c.get(cmd.Context(), bfia.PathModelQuery, query, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			return printFields(cmd.OutOrStdout(), data)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// modelNames explains the argument of the commands about one model.
const modelNames = "MODEL is\n" +
	"JOB:TASK, or JOB:TASK.OUTPUT for a task with several models, or the id of a job with one model."

// model returns the name of a model. A job's id alone names its only model.
func (c *client) model(ctx context.Context, name string) (string, error) {
	if strings.Contains(name, ":") {
		ref, err := bfia.ParseModelRef(name)
		if err != nil {
			return "", usagef("MODEL: %q is not of the form JOB:TASK or JOB:TASK.OUTPUT", name)
		}
		return ref.String(), nil
	}
	var models []bfia.ModelView
	if err := c.get(ctx, bfia.PathModelQuery, url.Values{"job_id": {name}}, &models); err != nil {
		return "", err
	}
	var names []string
	for _, m := range models {
		if len(names) == 0 || names[len(names)-1] != m.Model {
			names = append(names, m.Model)
		}
	}
	switch len(names) {
	case 0:
		return "", fmt.Errorf("job %s has no model at this party: it trained none, or it was deleted", name)
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("job %s has several models; name one of them: %s", name, strings.Join(names, ", "))
}

func newModelKeep(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "keep MODEL", Short: "Keep a model when its job is removed",
		Long: "Makes this party's parts of a model stay when their job is deleted or its retention is over.\n" +
			"Each party decides for its own part. " + modelNames,
		Example: "  hutong model keep 202601021200000000001:boosting",
		Args:    exactly("MODEL"),
		RunE:    c.modelCommand(bfia.PathModelKeep, "is kept"),
	}
}

func newModelDelete(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "delete MODEL", Short: "Delete a model",
		Long: "Deletes this party's parts of a model, kept or not. The party refuses it while an unfinished\n" +
			"job uses the model. The other parties keep theirs. " + modelNames,
		Example: "  hutong model delete 202601021200000000001:boosting",
		Args:    exactly("MODEL"),
		RunE:    c.modelCommand(bfia.PathModelDelete, "deleted"),
	}
}

// modelCommand sends a command about one model.
func (c *client) modelCommand(path, done string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ref, err := c.model(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if _, err := c.post(cmd.Context(), path, bfia.ModelName{Model: ref}, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "model %s %s\n", ref, done)
		return err
	}
}

func newModelExport(c *client) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export MODEL", Short: "Export a model as a zip archive",
		Long: "Writes this party's parts of a model to a zip archive, with a manifest: what made the model,\n" +
			"and the hashes of its files, signed with the party's key. Only its owner can read the file. " + modelNames,
		Example: "  hutong model export 202601021200000000001:boosting -o boosting.zip",
		Args:    exactly("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("-o is missing: the file to write; - is standard output")
			}
			ref, err := c.model(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.saveTo(cmd, bfia.PathModelExport+"?"+url.Values{"model": {ref}}.Encode(), out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the archive to write")
	return cmd
}

func newModelImport(c *client) *cobra.Command {
	var signer, project string
	var unsigned bool
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Import a model that was exported",
		Long: "Stores the archive of a model that this party exported before, and keeps the model. The\n" +
			"party checks its signature, names, sizes and hashes first. It refuses an archive that it has not\n" +
			"signed itself, unless --signer names the key that did, or --unsigned accepts one without a\n" +
			"signature.",
		Example: "  hutong model import boosting.zip",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if signer != "" {
				pin, err := certs.ParsePin(signer)
				if err != nil {
					return usagef("--signer: %w", err)
				}
				query.Set("signer", pin.Hex())
			}
			if project != "" {
				query.Set("project", project)
			}
			if unsigned {
				query.Set("unsigned", "true")
			}
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			info, err := file.Stat()
			if err != nil {
				return err
			}
			progress := &transfer{reader: io.LimitReader(file, info.Size()), total: info.Size(),
				what: filepath.Base(args[0]), to: terminal(cmd.ErrOrStderr())}
			request, err := c.request(cmd.Context(), http.MethodPost, bfia.PathModelImport+"?"+query.Encode(),
				progress)
			if err != nil {
				return err
			}
			request.ContentLength = info.Size()
			request.Header.Set("Content-Type", "application/zip")
			var imported bfia.ModelImported
			_, err = c.do(request, &imported)
			progress.end()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "model %s imported, %s\n", plain(imported.Model),
				signatureText(imported))
			return err
		},
	}
	cmd.Flags().StringVar(&signer, "signer", "",
		"SHA-256 of the public key that signed it, if that is not a key of this party")
	cmd.Flags().BoolVar(&unsigned, "unsigned", false, "accept an archive without a signature")
	projectFlag(cmd, &project)
	cmd.MarkFlagsMutuallyExclusive("signer", "unsigned")
	return cmd
}

// signatureText says who signed an archive that was imported.
func signatureText(m bfia.ModelImported) string {
	switch {
	case m.Key == "":
		return "without a signature"
	case m.SignedBy == "":
		return "signed by the key " + plain(m.Key)
	}
	return fmt.Sprintf("signed by %s with the key %s", plain(m.SignedBy), plain(m.Key))
}
