package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobPredict(c *client) *cobra.Command {
	var s submission
	var model, component string
	var data []string
	var printIt bool
	cmd := &cobra.Command{
		Use: "predict", Short: "Submit a job that applies the model of an earlier job",
		Long: "Makes the job that applies a model to other rows, submits it and prints its id. The tasks on\n" +
			"which the training depended run again, such as an intersection; those that trained a model\n" +
			"are replaced by the component of the same name with _predict, which gets the model. Parties,\n" +
			"resources and parameters are those of the training. --data names the dataset of each party,\n" +
			"by its node id or its part (host.1). --print shows the document instead of submitting it.\n" +
			"docs/models.md has more.",
		Example: "  hutong job predict --model 202601021200000000001:boosting " +
			"--data guest.0=bank#new --data host.0=shop#new --watch\n" +
			"  hutong job predict --model 202601021200000000001 --data JG0100001100000010=bank#new " +
			"--data JG0110017800000000=shop#new --print",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if model == "" {
				return usagef("--model is missing: JOB:TASK, or the id of a job with one model")
			}
			document, err := c.prediction(cmd, model, component, data)
			if err != nil {
				return err
			}
			if printIt {
				text, err := json.Marshal(document)
				if err != nil {
					return fmt.Errorf("failed to encode the job: %w", err)
				}
				return printJSON(cmd.OutOrStdout(), text)
			}
			return c.submitDocument(cmd, document, "the prediction", s)
		},
	}
	cmd.Flags().StringVar(&model, "model", "", "the model: JOB:TASK, JOB:TASK.OUTPUT, or JOB")
	cmd.Flags().StringArrayVar(&data, "data", nil,
		"PARTY=NAMESPACE#NAME, the dataset of a party; once for each")
	cmd.Flags().StringVar(&component, "component", "",
		"the component that applies the model (default: the one that trained it, with _predict)")
	cmd.Flags().BoolVar(&printIt, "print", false, "print the job's document, and submit nothing")
	s.flags(cmd)
	return cmd
}

// prediction returns the document of a job that applies a model.
func (c *client) prediction(cmd *cobra.Command, name, component string, data []string,
) (map[string]json.RawMessage, error) {
	ctx := cmd.Context()
	datasets := map[string]string{}
	for _, d := range data {
		party, dataset, ok := strings.Cut(d, "=")
		if !ok || party == "" || dataset == "" || datasets[party] != "" {
			return nil, usagef(
				"--data: %q is not of the form PARTY=NAMESPACE#NAME, or names a party twice", d)
		}
		datasets[party] = dataset
	}
	name, err := c.model(ctx, name)
	if err != nil {
		return nil, err
	}
	ref, err := bfia.ParseModelRef(name)
	if err != nil {
		return nil, err
	}
	var parts []bfia.ModelView
	if err := c.get(ctx, bfia.PathModelQuery, url.Values{"model": {name}}, &parts); err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("this party has no part of model %s", name)
	}
	training, err := bfia.ParseDocument(parts[0].Document)
	if err != nil {
		return nil, fmt.Errorf("failed to decode the document of the training: %w", err)
	}
	self := ""
	for _, p := range training.Config.Parts() {
		if p.Self() == parts[0].Role {
			self = p.NodeID
		}
	}
	describe, err := c.describe(ctx)
	if err != nil {
		return nil, err
	}
	made, tasks, err := bfia.Prediction{Model: ref, Training: training, Component: component,
		Initiator: self, Datasets: datasets, Describe: describe}.Document()
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		text := fmt.Sprintf("%s: %s runs as in the training, on the new data", t.Name, t.Component)
		if t.Model != nil {
			text = fmt.Sprintf("%s: %s applies model %s", t.Name, t.Component, t.Model)
		}
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), plain(text)); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(made)
	if err != nil {
		return nil, fmt.Errorf("failed to encode the job: %w", err)
	}
	var document map[string]json.RawMessage
	return document, json.Unmarshal(text, &document)
}

// describe returns the descriptions of the components that are registered at the party.
func (c *client) describe(ctx context.Context) (bfia.Describe, error) {
	var providers []struct {
		Name       string                     `json:"name"`
		Version    string                     `json:"version"`
		Components map[string]json.RawMessage `json:"components_description"`
	}
	if err := c.get(ctx, bfia.PathProviderQuery, nil, &providers); err != nil {
		return nil, err
	}
	return func(provider, version, component string) (*bfia.Description, error) {
		for _, p := range providers {
			if text := p.Components[component]; text != nil && p.Name == provider && p.Version == version {
				return bfia.ParseDescription(component, text)
			}
		}
		return nil, bfia.Errorf(bfia.CodeNotFound,
			"componentName: provider %s:%s has no component %q at this party", provider, version, component)
	}, nil
}
