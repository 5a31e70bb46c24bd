SELECT tandem._database_ready();
