package conformance

import (
	"context"
	"fmt"
	"net/http"

	"hutong/bfia"
)

// unknownID is an id that no party has seen.
const unknownID = "conformance-unknown"

// general returns the checks of what all endpoints have in common, and of registration.
func general() []Check {
	poll := bfia.TaskPoll{TaskID: unknownID}
	headers := func(d dialect) func(context.Context, *session) (string, error) {
		return func(ctx context.Context, s *session) (string, error) {
			a, err := s.askAs(ctx, d, http.MethodPost, bfia.PathTaskPoll, poll)
			if err != nil {
				return "", err
			}
			return a.String(), a.checkRefusal()
		}
	}
	return []Check{
		{"POST " + bfia.PathTaskPoll, "the specification's headers are read", "2/2.2",
			headers(specification)},
		{"POST " + bfia.PathTaskPoll, "FATE-Flow's headers, with underscores, are read", "2/2.2",
			headers(fateFlow)},
		{"POST " + bfia.PathTaskPoll, "Kuscia's headers, with seconds, are read", "2/2.2", headers(kuscia)},
		{
			"POST " + bfia.PathTaskPoll,
			"a body that is not JSON is refused in an envelope",
			"2/2.3",
			func(ctx context.Context, s *session) (string, error) {
				a, err := s.ask(ctx, http.MethodPost, bfia.PathTaskPoll, `{"task_id": `)
				if err != nil {
					return "", err
				}
				return a.String(), a.checkRefusal()
			},
		},
		{
			"POST " + bfia.PathTaskPoll,
			"a field of another type is refused in an envelope",
			"2/3.8",
			func(ctx context.Context, s *session) (string, error) {
				a, err := s.ask(ctx, http.MethodPost, bfia.PathTaskPoll, `{"task_id": 7, "role": ""}`)
				if err != nil {
					return "", err
				}
				return a.String(), a.checkRefusal()
			},
		},
		{
			"POST /v1/interconn/schedule/nothing",
			"an unknown path is answered with an envelope",
			"2/2.3",
			func(ctx context.Context, s *session) (string, error) {
				a, err := s.ask(ctx, http.MethodPost, "/v1/interconn/schedule/nothing", struct{}{})
				if err != nil {
					return "", err
				}
				if a.code == nil {
					return "", deviates("an answer without an envelope: %s", a)
				}
				return a.String(), a.checkRefusal()
			},
		},
		{
			"POST " + bfia.PathComponentRegister,
			"a component is registered, twice",
			"2/5.8",
			func(ctx context.Context, s *session) (string, error) {
				a, err := s.ask(ctx, http.MethodPost, bfia.PathComponentRegister, probeComponent())
				if err != nil {
					return "", err
				}
				if a.code == nil && a.status == http.StatusNotFound {
					return "", deviates("is not served")
				}
				if err := a.checkSuccess(); err != nil {
					return "", err
				}
				again, err := s.ask(ctx, http.MethodPost, bfia.PathComponentRegister, probeComponent())
				if err != nil {
					return "", err
				}
				return again.String(), again.checkSuccess()
			},
		},
		{
			"POST " + bfia.PathComponentRegister,
			"without an image it is refused",
			"2/5.8",
			func(ctx context.Context, s *session) (string, error) {
				body := probeComponent()
				delete(body, "imageUrl")
				a, err := s.ask(ctx, http.MethodPost, bfia.PathComponentRegister, body)
				if err != nil {
					return "", err
				}
				if a.code == nil && a.status == http.StatusNotFound {
					return "", deviates("is not served")
				}
				return a.String(), a.checkRefusal()
			},
		},
	}
}

// probeComponent returns the registration of a component that no job uses, with every field of the
// specification.
func probeComponent() map[string]any {
	return map[string]any{"imageUrl": "conformance-probe:1", "component_info": map[string]any{
		"componentName": "ConformanceProbe", "title": "Probe", "provider": "conformance", "version": "1.0.0",
		"description": "of a conformance test",
		"roleList":    []string{"guest", "host"}, "desVersion": "1.2.0", "storageEngine": []string{"s3"},
		"inputParam": []any{
			map[string]any{
				"name":         "id",
				"title":        "id",
				"description":  "id",
				"type":         "string",
				"bindingData":  []any{map[string]string{"label": "id", "value": "id"}},
				"optional":     true,
				"defaultValue": "id",
				"validator":    "regular:'.*'",
				"dependsOn":    []string{},
				"UIPattern":    "editeable",
				"groupTag":     []string{"all"},
				"UIType":       "input",
			},
		},
		"inputData": []any{
			map[string]any{
				"name":        "train_data",
				"description": "rows",
				"category":    "dataset",
				"dataFormat":  []string{"csv"},
			},
		},
		"outputData": []any{
			map[string]any{
				"name":        "data",
				"description": "rows",
				"category":    "dataset",
				"dataFormat":  []string{"csv"},
			},
		},
		"result": []any{map[string]string{"resultCode": "4444", "resultMessage": "failed"}}}}
}

// missingField returns the check that a request without a field is refused.
func missingField(path, field, section string, body func(s *session) (map[string]any, error)) Check {
	return Check{
		"POST " + path,
		fmt.Sprintf("without %s it is refused", field),
		section,
		func(ctx context.Context, s *session) (string, error) {
			b, err := body(s)
			if err != nil {
				return "", err
			}
			delete(b, field)
			a, err := s.ask(ctx, http.MethodPost, path, b)
			if err != nil {
				return "", err
			}
			return a.String(), a.checkRefusal()
		},
	}
}

// constantBody returns a body that does not depend on the session.
func constantBody(body map[string]any) func(*session) (map[string]any, error) {
	return func(*session) (map[string]any, error) {
		b := make(map[string]any, len(body))
		for k, v := range body {
			b[k] = v
		}
		return b, nil
	}
}
