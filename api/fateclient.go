package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/fateflow/fateclient"
	"hutong/internal/identity"
	"hutong/store"
)

// fateClientRoutes returns the routes that FATE's clients use besides those of the protocol: the flow command
// line, the pipeline and FATE-Board. Package fateclient implements their forms.
func (s *Server) fateClientRoutes() []route {
	get, post := http.MethodGet, http.MethodPost
	return []route{
		{post, fateclient.PathJobSubmit, fate(fateclient.OfSubmission, s.fateSubmit),
			clientWith(identity.Operator)},
		{get, fateclient.PathJobQuery, fate(fateclient.OfJob, s.fateJobs), clientWith(identity.Viewer)},
		{get, fateclient.PathJobList, fate(fateclient.OfJob, s.fateJobList), clientWith(identity.Viewer)},
		{post, fateclient.PathJobStop, fate(fateclient.OfStop, s.fateStop), clientWith(identity.Operator)},
		{get, fateclient.PathTaskQuery, fate(fateclient.OfTask, s.fateTasks), clientWith(identity.Viewer)},
		{get, fateclient.PathTaskList, fate(fateclient.OfTask, s.fateTaskList), clientWith(identity.Viewer)},
	}
}

// localFATECodes holds the codes of FATE's clients for the errors of a request.
const localFATECodes = "fate_codes"

// fate returns a handler whose errors get the codes that FATE's clients expect, with HTTP status 200: the
// clients ignore it, and FATE-Board takes any other for a broken server.
func fate(codes fateclient.Codes, handler fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Locals(localFATECodes, codes)
		return handler(c)
	}
}

// failFATE answers a request of FATE's clients with an error. answered is false if the error has no code of
// theirs, or the request is not theirs.
func failFATE(c *fiber.Ctx, code bfia.Code, message string) (answered bool, err error) {
	codes, is := c.Locals(localFATECodes).(fateclient.Codes)
	if !is {
		return false, nil
	}
	mapped, known := codes[code]
	if !known {
		return false, nil
	}
	return true, c.Status(http.StatusOK).JSON(map[string]any{"code": mapped, "message": message})
}

// okFATE answers a request of FATE's clients with success. extra holds fields next to data. A nil data is
// left out.
func okFATE(c *fiber.Ctx, data any, extra map[string]any) error {
	body := map[string]any{"code": bfia.CodeOK, "message": "success"}
	if data != nil {
		body["data"] = data
	}
	for k, v := range extra {
		body[k] = v
	}
	return c.JSON(body)
}

// catalog returns the providers that are registered at this party now.
func (s *Server) catalog(ctx context.Context) (fateflow.Catalog, error) {
	providers, err := s.store.Providers(ctx, store.ProviderFilter{})
	if err != nil {
		return fateflow.Catalog{}, err
	}
	return catalogOf(store.NewRegistry(providers)), nil
}

// catalogOf returns a registry as a catalog.
func catalogOf(registry *store.Registry) fateflow.Catalog {
	find := func(component string) ([]fateflow.Provider, error) {
		// The list is sorted by name and version. A version that is registered for several devices has a row
		// for each.
		var found []fateflow.Provider
		for _, r := range registry.Providers() {
			if _, has := r.Components[component]; has {
				found = append(found, fateflow.Provider{Name: r.Name, Version: r.Version})
			}
		}
		return slices.Compact(found), nil
	}
	return fateflow.Catalog{Describe: registry.Describe, Find: find}
}
