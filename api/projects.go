package api

import (
	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

// queryProjects lists the projects that the client may see, with what they have.
func (s *Server) queryProjects(c *fiber.Ctx) error {
	if _, err := s.params(c); err != nil {
		return err
	}
	projects, err := s.store.Projects(c.UserContext())
	if err != nil {
		return err
	}
	return ok(c, projects)
}

// createProject creates a project.
func (s *Server) createProject(c *fiber.Ctx) error {
	request, err := s.readProject(c)
	if err != nil {
		return err
	}
	settings := request.Apply(bfia.ProjectSettings{})
	if err := settings.Check(); err != nil {
		return err
	}
	by := identity.From(c.UserContext()).Name
	project, err := s.store.CreateProject(c.UserContext(), request.Name, settings, by)
	if err != nil {
		return err
	}
	s.logger.Info("a project was created", "project", project.Name, "by", by)
	return ok(c, project)
}

// setProject changes the settings of a project.
func (s *Server) setProject(c *fiber.Ctx) error {
	request, err := s.readProject(c)
	if err != nil {
		return err
	}
	project, err := s.store.SetProject(c.UserContext(), request)
	if err != nil {
		return err
	}
	s.logger.Info("a project was changed", "project", project.Name, "by", identity.From(c.UserContext()).Name)
	return ok(c, project)
}

// removeProject removes an empty project.
func (s *Server) removeProject(c *fiber.Ctx) error {
	var ref bfia.ProjectRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	on(c.UserContext(), audit.Project, ref.Name)
	if err := checkProjectName(ref.Name); err != nil {
		return err
	}
	if err := s.store.RemoveProject(c.UserContext(), ref.Name); err != nil {
		return err
	}
	s.logger.Info("a project was removed", "project", ref.Name, "by", identity.From(c.UserContext()).Name)
	return ok(c, ref)
}

// readProject reads the body of a request that creates or changes a project.
func (s *Server) readProject(c *fiber.Ctx) (request bfia.SetProject, err error) {
	if err := s.readJSON(c, &request); err != nil {
		return request, err
	}
	if err := checkProjectName(request.Name); err != nil {
		return request, err
	}
	on(c.UserContext(), audit.Project, request.Name)
	return request, nil
}

// checkProjectName refuses the name of a project that can't be created or changed.
func checkProjectName(name string) error {
	if err := identity.CheckProjectName(name); err != nil {
		return bfia.Wrap(bfia.CodeBadRequest, err, "name: %v", err)
	}
	if name == identity.DefaultProject {
		return bfia.Errorf(bfia.CodeConflict, "name: each party has the project %s, which has no settings",
			name)
	}
	return nil
}
