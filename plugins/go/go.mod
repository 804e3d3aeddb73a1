module rowmill.example/plugins

go 1.24
