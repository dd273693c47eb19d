"""MarServe: serves model archives over HTTP. Import what you need from the modules below."""

__version__ = "0.4.0"
